"""What an API key may do, and how long when it is replaced."""

from typing import Literal, get_args

# Score transactions; label them and decide reviews; read; change how the service decides.
Scope = Literal["score", "label", "read", "admin"]
DEFAULT_TENANT = "default"
SCOPES: tuple[Scope, ...] = get_args(Scope)
# How long a replaced key is good for, unless somebody says otherwise.
GRACE_HOURS = 24.0
