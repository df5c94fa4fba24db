"""The ASGI application: `uvicorn --factory app.main:create_app`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from app import __version__
from app.accounts import routes as accounts
from app.audit import routes as audit
from app.console import routes as console
from app.demo import routes as demo
from app.entities import routes as entities
from app.erasures import routes as erasures
from app.explanations import routes as explanations
from app.figures import routes as figures
from app.http.authentication import Admission
from app.http.lean import LeanRoutes, lean_routes
from app.http.openapi import complete, operation_id
from app.http.paths import EncodedSlashes
from app.http.problems import install
from app.keys import routes as keys
from app.labels import routes as labels
from app.models import routes as models
from app.notes import routes as notes
from app.ops import garbage, tracing
from app.people import routes as people
from app.reviews import routes as reviews
from app.scoring import routes as transactions
from app.searches import routes as searches
from app.settings import Settings
from app.statuses import routes as statuses
from app.thresholds import routes as thresholds
from app.web import docs, health
from app.web.gate import GATE, Gate
from app.web.limits import BodyLimit
from app.web.observation import Observation
from app.web.service import running
from app.webhooks import routes as webhooks

DESCRIPTION = "Fraud scores that learn each account from a handful of labels."
ROUTERS = (
    transactions.scoring,
    reviews.figures,
    *(
        resource.router
        for resource in (
            transactions,
            searches,
            statuses,
            labels,
            accounts,
            notes,
            entities,
            reviews,
            thresholds,
            explanations,
            erasures,
            models,
            keys,
            people,
            audit,
            webhooks,
            figures,
            demo,
            health,
        )
    ),
)
ROUTES = tuple(route for router in ROUTERS for route in router.routes)
SCORING = lean_routes(ROUTES)


def _included(*routers: APIRouter) -> list[BaseRoute]:
    """Routes as applications take them: made ready by the first request, for all of a process."""
    # Operation ids are short, and what generated clients name their methods by: the functions' own.
    including = APIRouter(generate_unique_id_function=operation_id)
    for router in routers:
        including.include_router(router)
    return including.routes


API, DOCS, CONSOLE = _included(*ROUTERS), _included(docs.router), _included(*console.ROUTERS)

# How long a thread that computes (what labels would have been without another, many rows) keeps the
# event loop waiting each time: Python's own 5 ms, several times in a request, quadrupled the 99th
# percentile of scores beside it.
SWITCH_SECONDS = 0.0005


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on these settings, by default those of the environment."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        with tracing.exporting(chosen.tracing):
            async with running(chosen) as service:
                app.state.service = service
                garbage.spare_requests()
                sys.setswitchinterval(SWITCH_SECONDS)
                admission = service.part(Admission)
                # For the protocol, which has no other way to the application.
                yield {GATE: Gate(admission, SCORING)}

    app = Quickstudy(
        title="Quickstudy",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # `/v1/accounts/` is an account with an empty id, not the list of all of them.
        redirect_slashes=False,
        # Spans and metrics are ours; FastAPI's own would look for a provider every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # FastAPI's own pages load their scripts from a CDN.
        docs_url=None,
        redoc_url=None,
        # And writes the document anew each time.
        openapi_url=None,
        # Not FastAPI's `root_path`, which would take a path for the prefix that begins like it.
        servers=[{"url": chosen.root_path}],
    )
    routers = (
        *ROUTERS,
        *((docs.router,) if chosen.docs else ()),
        *(console.ROUTERS if chosen.console else ()),
    )
    install(app, [route for router in routers for route in router.routes])
    app.add_middleware(EncodedSlashes)
    app.add_middleware(BodyLimit, most_bytes=chosen.max_body_bytes)
    lean = {path: BodyLimit(route.answer, chosen.max_body_bytes) for path, route in SCORING.items()}
    app.add_middleware(LeanRoutes, routes=lean)
    app.router.routes.extend(
        (*API, *(DOCS if chosen.docs else ()), *(CONSOLE if chosen.console else ()))
    )
    return app


class Quickstudy(FastAPI):
    """FastAPI, with an OpenAPI document that shows how errors really look."""

    def build_middleware_stack(self) -> ASGIApp:
        # Around all others, the one of Starlette too that answers 500 where nobody else did.
        return Observation(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            complete(document, ROUTES)
        assert self.openapi_schema is not None
        return self.openapi_schema


garbage.spare_what_is_imported()
