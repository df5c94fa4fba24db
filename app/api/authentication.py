"""Who asks: the API key in `Authorization: Bearer …`, and the tenant it speaks for."""

from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.audit import actor
from app.batching import Place
from app.errors import Unauthenticated
from app.keys import CHALLENGE, Caller, token_of
from app.service import Service

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="api_key",
    description="A key from `quickstudy keys create NAME`.",
)


# FastAPI calls what is not asynchronous in a thread: a hop for every request.
async def running_service(request: Request) -> Service:
    """The service that this application was started with."""
    return cast(Service, request.app.state.service)


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


async def authenticate(
    service: Service, authorization: str | None, scopes: Sequence[str]
) -> Caller:
    """Whom the key in an Authorization header speaks for.

    Raises Unauthenticated, RateLimited, or Forbidden where the key has no such scope.
    """
    token = token_of(authorization or "")
    if token is None:
        raise Unauthenticated(
            "Send an API key in the header Authorization: Bearer qs_…", headers=CHALLENGE
        )
    caller = await service.authenticator.caller_of(token)
    service.rates.spend(caller.key_id)
    caller.check(scopes)
    actor.set(caller.key_id)
    return caller


RunningService = Annotated[Service, Depends(running_service)]
# The place in the queue that a lean route has taken for a key that may score.
ScorePlace = Annotated[Place, Security(authenticated_tenant, scopes=["score"])]
# The tenant of a key that may do this.
MayLabel = Annotated[str, Security(authenticated_tenant, scopes=["label"])]
LabelCaller = Annotated[Caller, Security(authenticated_caller, scopes=["label"])]
MayRead = Annotated[str, Security(authenticated_tenant, scopes=["read"])]
MayAdminister = Annotated[str, Security(authenticated_tenant, scopes=["admin"])]
