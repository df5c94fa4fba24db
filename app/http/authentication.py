"""Who asks: the API key in `Authorization: Bearer …`, and the tenant it speaks for."""

from collections.abc import Iterable
from typing import Annotated, NamedTuple, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.http.batching import Place
from app.http.problems import Forbidden


class Caller(NamedTuple):
    """Whom a live key speaks for; or a person, whose `key_id` then is `person:` and their id."""

    tenant: str
    key_id: str
    scopes: frozenset[str]
    # The name of a person who has proven to be that; of a key, anybody may have it.
    person: str | None = None

    @property
    def may_manage(self) -> bool:
        return "manage" in self.scopes

    def check(self, scopes: Iterable[str]) -> None:
        """Raises Forbidden where a scope is missing."""
        if not self.scopes.issuperset(scopes):
            missing = sorted(set(scopes) - self.scopes)
            holder = "key" if self.person is None else "person"
            raise Forbidden(f"This {holder} has no scope {', '.join(missing)}.")


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="quickstudy"'}


def token_of(authorization: str) -> str | None:
    """The key in an Authorization header, if it is in the form of one."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


bearer = HTTPBearer(
    auto_error=False,
    scheme_name="api_key",
    description="A key from `quickstudy keys create NAME`.",
)


async def authenticated_caller(
    request: Request,
    # What the OpenAPI document says of the route.
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
) -> Caller:
    """Whom the request's key speaks for: `KeyedRoute` checked it before it read the body."""
    return cast(Caller, request.scope["caller"])


async def authenticated_tenant(
    caller: Annotated[Caller, Depends(authenticated_caller)],
) -> str:
    """The tenant of the request's key."""
    return caller.tenant


# The place in the queue that a lean route has taken for a key that may score.
ScorePlace = Annotated[Place, Security(authenticated_tenant, scopes=["score"])]
# The tenant of a key that may do this.
MayScore = Annotated[str, Security(authenticated_tenant, scopes=["score"])]
MayLabel = Annotated[str, Security(authenticated_tenant, scopes=["label"])]
DecidingCaller = Annotated[Caller, Security(authenticated_caller, scopes=["decide"])]
MayRead = Annotated[str, Security(authenticated_tenant, scopes=["read"])]
MayManage = Annotated[str, Security(authenticated_tenant, scopes=["manage"])]
MayAdminister = Annotated[str, Security(authenticated_tenant, scopes=["admin"])]
