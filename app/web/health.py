"""For orchestrators and monitoring: alive, ready, measured. No key is needed."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from app.db.errors import DatabaseUnavailable
from app.errors import SetupError, Unavailable
from app.http.parts import RunningDatabase, part
from app.http.problems import documented
from app.models.service import Models
from app.ops import metrics
from app.web.health_schemas import Readiness, Status

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Status:
    """The process answers. Never reads the database: restarting would not bring that back."""
    return Status(status="ok")


@router.get("/readyz", responses=documented(Unavailable, DatabaseUnavailable))
async def readyz(
    request: Request, database: RunningDatabase, models: Annotated[Models, part(Models)]
) -> Readiness:
    """A score could be stored now: a checkpoint is loaded, the schema right, commits succeed, and
    no background task that the service needs has failed for long."""
    try:
        await database.check_ready()
    except SetupError as error:
        raise Unavailable(str(error)) from error
    for task in request.app.state.service.background:
        if task.problem and not database.is_recovering:
            raise Unavailable(task.problem)
    return Readiness(status="ok", model=models.default.model)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus exposition.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "quickstudy_scored_transactions_total 42.0\n",
                }
            },
        }
    },
)
async def read_metrics() -> Response:
    """Figures for Prometheus."""
    return Response(metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})
