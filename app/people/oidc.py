"""Signing in by an OpenID provider, such as that of a company.

The authorization code flow of OpenID Connect Core 1.0, section 3.1, with PKCE (RFC 7636). Nobody is
added by it: whoever comes is a person of ours by the e-mail address that the provider vouches for.
"""

import base64
import binascii
import json
import secrets
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from app.errors import SetupError
from app.settings import Settings

if TYPE_CHECKING:
    from app.people.provider import Provider


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


class OpenId:
    """The settings' provider, if there is one; without it, what it takes is never imported.

    Raises SetupError where it takes what is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        self.provider: Provider | None = None
        issuer, client_id = settings.oidc_issuer, settings.oidc_client_id
        secret = settings.oidc_client_secret
        # The host, as people know it.
        self.name = urlsplit(issuer).hostname if issuer else None
        if issuer and client_id and secret:
            try:
                from app.people import provider
            except ImportError:
                raise SetupError(
                    "OpenID Connect needs joserfc: pip install 'quickstudy[oidc]'"
                ) from None
            self.provider = provider.Provider(
                issuer, client_id, secret.get_secret_value(), settings.oidc_claim
            )

    async def close(self) -> None:
        """Keep no connection to the provider."""
        if self.provider is not None:
            await self.provider.close()
