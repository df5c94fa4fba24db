"""For orchestrators and monitoring: alive, ready, measured. No key is asked for."""

from fastapi import APIRouter, Response

from app import metrics
from app.api.authentication import RunningService
from app.errors import DatabaseUnavailable, SetupError, Unavailable, documented
from app.schemas.health import Readiness, Status

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Status:
    """The process answers. Never asks the database: restarting would not bring that back."""
    return Status(status="ok")


@router.get("/readyz", responses=documented(Unavailable, DatabaseUnavailable))
async def readyz(service: RunningService) -> Readiness:
    """A score could be stored now: a checkpoint is loaded, the schema right, commits succeed, and
    no background task that the service needs has failed for long."""
    try:
        await service.database.check_ready()
    except SetupError as error:
        raise Unavailable(str(error)) from error
    for task in service.background:
        if task.problem and not service.database.is_recovering:
            raise Unavailable(task.problem)
    return Readiness(status="ok", model=service.models.default.model)


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
