"""The ASGI application: `uvicorn --factory app.main:create_app`."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from app import __version__, tracing
from app.api import (
    accounts,
    audit,
    health,
    keys,
    labels,
    models,
    reviews,
    thresholds,
    transactions,
    webhooks,
)
from app.api.lean import LeanRoutes
from app.api.limits import BodyLimit
from app.api.observation import Observation
from app.api.paths import EncodedSlashes
from app.errors import install, problem_schema
from app.service import running
from app.settings import Settings

DESCRIPTION = "Fraud scores that learn each account from a handful of labels."
ROUTERS = (
    transactions.scoring,
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
YOUNG_OBJECTS = 50_000
_SERIALIZED: JsonSchemaMode = "serialization"


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on these settings, by default those of the environment."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with tracing.exporting(chosen.tracing):
            async with running(chosen) as service:
                app.state.service = service
                _spare_the_garbage_collector()
                yield

    app = Quickstudy(
        title="Quickstudy",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # Spans and metrics are ours; FastAPI's own would look for a provider every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    install(app, ROUTES)
    app.add_middleware(EncodedSlashes)
    app.add_middleware(LeanRoutes, routes=ROUTES)
    app.add_middleware(BodyLimit, most_bytes=chosen.max_body_bytes)
    app.add_middleware(Observation)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _spare_the_garbage_collector() -> None:
    """What start-up has made stays: to search it for garbage would halt requests for .1 s."""
    # Once a process: what a second application made, in tests, need not stay.
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()
        # Batches make many objects that live as long as they do; cycles are few.
        gc.set_threshold(YOUNG_OBJECTS, 10, 10)


class Quickstudy(FastAPI):
    """FastAPI, with an OpenAPI document that tells how errors really look."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            schemas["Problem"] = problem_schema()
            # FastAPI's own error bodies, which no route answers with.
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            # FastAPI leaves out every null, those of the examples too.
            answers = [route.response_model for route in ROUTES if isinstance(route, APIRoute)]
            models = [(one, _SERIALIZED) for one in answers if one is not None]
            for name, schema in models_json_schema(models)[1]["$defs"].items():
                if "examples" in schema:
                    schemas[name]["examples"] = schema["examples"]
        assert self.openapi_schema is not None
        return self.openapi_schema
