"""Requests to an OpenID provider; the signatures of its tokens are checked by joserfc."""

import asyncio
import base64
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from app.http.problems import Unauthenticated
from app.people.flow import Flow, ProviderAway

logger = logging.getLogger("quickstudy")

# What the provider says of itself and its keys is good for so long: keys change now and then, and
# whoever looks at the page must not make us ask each time.
KNOWN_SECONDS = 60.0
# For all requests of somebody who signs in; and how many people at once.
LONGEST_SECONDS, MOST_AT_ONCE = 15.0, 4
# A public key checks them: who knows it can sign nothing.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
CLOCK_SECONDS = 60
NOT_PROVEN = "The provider's answer is not good: sign in again."


class _Known(NamedTuple):
    """What a provider says of itself, its keys, and until when that is good."""

    metadata: dict[str, Any]
    keys: Any
    until: float


class Provider:
    """An OpenID provider, where this service is a confidential client."""

    def __init__(self, issuer: str, client_id: str, secret: str, claim: str) -> None:
        self._issuer, self._client_id, self._secret, self._claim = issuer, client_id, secret, claim
        self._known: _Known | None = None
        self._turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._client = httpx.AsyncClient(timeout=LONGEST_SECONDS)

    async def address(self, flow: Flow, back_to: str) -> str:
        """Where a browser is to go to sign in, and from there back to us. Raises ProviderAway."""
        async with self._in_turn():
            known = await self._provider()
        digest = hashlib.sha256(flow.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": back_to,
            "scope": "openid email profile",
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        endpoint = known.metadata["authorization_endpoint"]
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"

    async def email(self, flow: Flow, code: str, back_to: str) -> str:
        """The e-mail address of whoever has been at the provider and brings back this code.

        Raises Unauthenticated where the answer does not prove it, and ProviderAway.
        """
        async with self._in_turn():
            known = await self._provider()
            token = await self._token(known.metadata, flow, code, back_to)
        return self._proven(known.keys, token, flow.nonce)

    async def close(self) -> None:
        """Keep no connection to it."""
        await self._client.aclose()

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """A turn at the provider, for a bounded time; what fails is a ProviderAway."""
        try:
            async with asyncio.timeout(LONGEST_SECONDS), self._turn:
                yield
        except TimeoutError as error:
            raise ProviderAway("it did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderAway("it cannot be reached") from error

    async def _provider(self) -> _Known:
        if self._known is None or time.monotonic() > self._known.until:
            address = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            metadata = await self._fetched(address)
            if metadata.get("issuer") != self._issuer:
                raise ProviderAway("its issuer is not QUICKSTUDY_OIDC_ISSUER")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not isinstance(metadata.get(name), str):
                    raise ProviderAway(f"it does not state its {name}")
            try:
                keys = KeySet.import_key_set(await self._fetched(metadata["jwks_uri"]))  # type: ignore[arg-type]
            except (JoseError, ValueError, TypeError, KeyError) as error:
                raise ProviderAway("its keys cannot be read") from error
            self._known = _Known(metadata, keys, time.monotonic() + KNOWN_SECONDS)
        return self._known

    async def _fetched(self, address: str) -> dict[str, Any]:
        return _content(await self._client.get(address))

    async def _token(self, metadata: dict[str, Any], flow: Flow, code: str, back_to: str) -> str:
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back_to,
            "code_verifier": flow.verifier,
        }
        ways = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        auth = httpx.Auth()
        if "client_secret_basic" in ways:
            # Encoded as in a form: RFC 6749, 2.3.1.
            auth = httpx.BasicAuth(quote_plus(self._client_id), quote_plus(self._secret))
        else:
            body |= {"client_id": self._client_id, "client_secret": self._secret}
        answer = await self._client.post(metadata["token_endpoint"], data=body, auth=auth)
        if answer.status_code in (400, 401, 403):
            # The code is used, old or made up; or our secret is wrong, for the operator to see.
            logger.warning(
                "the OpenID provider refused a code or QUICKSTUDY_OIDC_CLIENT_SECRET: %s",
                answer.text[:200],
            )
            raise Unauthenticated(NOT_PROVEN)
        token = _content(answer).get("id_token")
        if not isinstance(token, str):
            raise ProviderAway("its answer has no id_token")
        return token

    def _proven(self, keys: Any, token: str, nonce: str) -> str:
        registry = jwt.JWTClaimsRegistry(
            leeway=CLOCK_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            nonce={"essential": True, "value": nonce},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated(NOT_PROVEN) from error
        if claims.get("azp", self._client_id) != self._client_id:
            raise Unauthenticated(NOT_PROVEN)
        email = claims.get(self._claim)
        if not isinstance(email, str) or not email:
            raise Unauthenticated(
                f"The provider does not state your e-mail address ({self._claim})."
            )
        if self._claim == "email" and claims.get("email_verified") is not True:
            raise Unauthenticated("The provider does not vouch for your e-mail address.")
        return email


def _content(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise ProviderAway(f"it answered {answer.status_code}")
    try:
        content = answer.json()
    except ValueError as error:
        raise ProviderAway("its answer is not JSON") from error
    if not isinstance(content, dict):
        raise ProviderAway("its answer is not a JSON object")
    return content
