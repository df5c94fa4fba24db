"""Signing in by an OpenID provider, such as that of a company.

The authorization code flow of OpenID Connect Core 1.0, section 3.1, with PKCE (RFC 7636). Nobody is
added by it: whoever comes is a person of ours by the e-mail address that the provider vouches for.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.errors import SetupError
from app.settings import Settings

if TYPE_CHECKING:
    from app.people.provider import Provider


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
                raise SetupError("OpenID Connect needs joserfc: pip install '.[oidc]'") from None
            self.provider = provider.Provider(
                issuer, client_id, secret.get_secret_value(), settings.oidc_claim
            )

    async def close(self) -> None:
        """Keep no connection to the provider."""
        if self.provider is not None:
            await self.provider.close()
