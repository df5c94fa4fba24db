"""What a browser keeps of its way to an OpenID provider and back."""

import base64
import binascii
import json
import secrets
from typing import NamedTuple


class ProviderAway(Exception):
    """The provider cannot be reached, or does not answer as OpenID Connect says."""


class Flow(NamedTuple):
    """What the browser keeps while its person is at the provider, and where they wanted to go."""

    state: str
    nonce: str
    verifier: str
    back: str
    tenant: str

    @classmethod
    def begun(cls, back: str, tenant: str) -> "Flow":
        """One that nobody can guess."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, back, tenant)

    @classmethod
    def read(cls, text: str) -> "Flow | None":
        """What `text` wrote; None for anything else."""
        try:
            values = json.loads(base64.urlsafe_b64decode(text.encode()))
        except (ValueError, binascii.Error, RecursionError):
            return None
        if not isinstance(values, list) or len(values) != len(cls._fields):
            return None
        return cls(*values) if all(isinstance(value, str) for value in values) else None

    @property
    def text(self) -> str:
        """For a cookie."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode()
