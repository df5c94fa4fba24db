"""The ASGI application: `uvicorn --factory app.main:create_app`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__, garbage, tracing
from app.api import (
    accounts,
    audit,
    docs,
    health,
    keys,
    labels,
    models,
    reviews,
    thresholds,
    transactions,
    webhooks,
)
from app.api.admission import GATE, Gate
from app.api.desk import DESK, Desk
from app.api.lean import LeanRoutes, lean_routes
from app.api.limits import BodyLimit
from app.api.observation import Observation
from app.api.openapi import complete, operation_id
from app.api.paths import EncodedSlashes
from app.errors import QuickstudyError, install
from app.service import running
from app.settings import Settings

DESCRIPTION = "Fraud scores that learn each account from a handful of labels."
ROUTERS = (
    transactions.scoring,
    reviews.figures,
    *(
        resource.router
        for resource in (
            transactions,
            labels,
            accounts,
            reviews,
            thresholds,
            audit,
            models,
            keys,
            webhooks,
            health,
        )
    ),
)
ROUTES = tuple(route for router in ROUTERS for route in router.routes)
SCORING = lean_routes(ROUTES)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on these settings, by default those of the environment."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        with tracing.exporting(chosen.tracing):
            async with running(chosen) as service:
                app.state.service = service
                garbage.spare_requests()
                # For the protocol, which has no other way to the application.
                desk = Desk(service, SCORING, chosen.max_body_bytes)
                # Spans are made by the middlewares.
                yield {GATE: Gate(service, SCORING), DESK: None if chosen.tracing else desk}

    app = Quickstudy(
        title="Quickstudy",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # `/v1/accounts/` is an account with an empty id, not the list of all of them.
        redirect_slashes=False,
        # Short, and what generated clients name their methods by: the functions' own names.
        generate_unique_id_function=operation_id,
        # Spans and metrics are ours; FastAPI's own would look for a provider every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # FastAPI's own pages load their scripts from a CDN.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if chosen.docs else None,
        # Not FastAPI's `root_path`, which would take a path for the prefix that begins like it.
        servers=[{"url": chosen.root_path}],
    )
    install(app, ROUTES)
    app.add_middleware(EncodedSlashes)
    app.add_middleware(LeanRoutes, routes=SCORING)
    app.add_middleware(BodyLimit, most_bytes=chosen.max_body_bytes)
    for router in ROUTERS:
        app.include_router(router)
    if chosen.docs:
        app.include_router(docs.router)
    return app


class Quickstudy(FastAPI):
    """FastAPI, with an OpenAPI document that tells how errors really look.

    A start that is refused on purpose says why in one sentence, and not in a traceback.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = _telling_why(send) if scope["type"] == "lifespan" else send
        await super().__call__(scope, receive, told)

    def build_middleware_stack(self) -> ASGIApp:
        # Around all others, the one of Starlette too that answers 500 where nobody else did.
        return Observation(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            complete(document, ROUTES)
        assert self.openapi_schema is not None
        return self.openapi_schema


def _telling_why(send: Send) -> Send:
    async def told(message: Message) -> None:
        error = sys.exc_info()[1]
        if message["type"] == "lifespan.startup.failed" and isinstance(error, QuickstudyError):
            message = {**message, "message": str(error)}
        await send(message)

    return told


garbage.spare_what_is_imported()
