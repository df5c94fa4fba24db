"""Who asks: the API key in `Authorization: Bearer …`, and the tenant it speaks for.

And what bounds the requests of a process: keys, rates, places in the queue, memory, deadlines.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.http.batching import Batcher, Place
from app.http.parts import part
from app.http.problems import Forbidden, Unauthenticated
from app.http.quotas import Rates, Shares
from app.ops.actor import actor
from app.ops.turns import Turns, owner


class Caller(NamedTuple):
    """Whom a live key speaks for; or a person, whose `key_id` then is `person:` and their id."""

    tenant: str
    key_id: str
    scopes: frozenset[str]
    # The name of a person who has proven to be that; of a key, anybody may have it.
    person: str | None = None
    # Of a key that has replaced others, the first of them.
    first_id: str | None = None

    @property
    def owner(self) -> str:
        """Whose claims and searches are theirs: a key that replaces another is the same caller."""
        return self.first_id or self.key_id

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


class Authenticator(Protocol):
    """Tells whom a key speaks for."""

    async def caller_of(self, token: str) -> Caller:
        """Raises Unauthenticated."""

    async def caller_of_id(self, key_id: str) -> Caller:
        """The same, by the id of a key that was proven before. Raises Unauthenticated."""

    def tenant_in_memory(self, token: str) -> str | None:
        """The tenant of a key that need not be looked up; None of any other."""


@dataclass(frozen=True, slots=True)
class Admission:
    """`queue` has the requests that share batches; `places` the others, `bodies` their bytes."""

    authenticator: Authenticator
    rates: Rates
    queue: Batcher[Any, Any]
    bodies: Shares
    places: Shares
    # A list that waits for its turn keeps no connection, and does not make a score wait.
    lists: Turns
    deadline_seconds: float


async def authenticate(
    admission: Admission, authorization: str | None, scopes: Sequence[str]
) -> Caller:
    """Whom the key in an Authorization header speaks for.

    Raises Unauthenticated, RateLimited, or Forbidden where the key has no such scope.
    """
    token = token_of(authorization or "")
    if token is None:
        raise Unauthenticated(
            "Send an API key in the header Authorization: Bearer qs_…", headers=CHALLENGE
        )
    caller = await admission.authenticator.caller_of(token)
    admission.rates.spend(caller.key_id)
    caller.check(scopes)
    actor.set(caller.key_id)
    owner.set(caller.tenant)
    return caller


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


RunningAdmission = Annotated[Admission, part(Admission)]
# The place in the queue that a lean route has taken for a key that may score.
ScorePlace = Annotated[Place, Security(authenticated_tenant, scopes=["score"])]
# The tenant of a key that may do this.
MayScore = Annotated[str, Security(authenticated_tenant, scopes=["score"])]
MayLabel = Annotated[str, Security(authenticated_tenant, scopes=["label"])]
ReadingCaller = Annotated[Caller, Security(authenticated_caller, scopes=["read"])]
DecidingCaller = Annotated[Caller, Security(authenticated_caller, scopes=["decide"])]
MayRead = Annotated[str, Security(authenticated_tenant, scopes=["read"])]
MayManage = Annotated[str, Security(authenticated_tenant, scopes=["manage"])]
MayAdminister = Annotated[str, Security(authenticated_tenant, scopes=["admin"])]
