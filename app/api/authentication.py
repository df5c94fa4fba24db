"""Who asks: the API key in `Authorization: Bearer …`, and the tenant it speaks for."""

from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.errors import Unauthenticated
from app.keys import CHALLENGE
from app.service import Service

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="API key",
    description="A key from `quickstudy keys create NAME`.",
)


def running_service(request: Request) -> Service:
    """The service that this application was started with."""
    return cast(Service, request.app.state.service)


async def authenticated_tenant(
    service: "RunningService",
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
) -> str:
    """The tenant of the request's key; raises Unauthenticated."""
    if credentials is None:
        raise Unauthenticated(
            "Send an API key in the header Authorization: Bearer qs_…", headers=CHALLENGE
        )
    return await service.authenticator.tenant_of(credentials.credentials)


RunningService = Annotated[Service, Depends(running_service)]
Tenant = Annotated[str, Depends(authenticated_tenant)]
