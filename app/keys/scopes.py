"""What API keys and people may do, and how long a key when it is replaced."""

from typing import Literal, get_args

# Score transactions; label them; decide reviews as people do; read; change how the service decides;
# erase accounts, and say who may do what.
Scope = Literal["score", "label", "decide", "read", "manage", "admin"]
DEFAULT_TENANT = "default"
SCOPES: tuple[Scope, ...] = get_args(Scope)
# What a person is, and may do by that.
Role = Literal["auditor", "analyst", "lead", "admin"]
ROLES: dict[Role, tuple[Scope, ...]] = {
    "auditor": ("read",),
    "analyst": ("label", "decide", "read"),
    "lead": ("label", "decide", "read", "manage"),
    "admin": SCOPES,
}
# How long a replaced key is good for, unless somebody says otherwise.
GRACE_HOURS = 24.0
