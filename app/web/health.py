"""For orchestrators and monitoring: alive, ready, measured. No key is needed."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request, Response

from app.db.errors import DatabaseUnavailable
from app.errors import SetupError, Unavailable
from app.http.parts import RunningDatabase, part
from app.http.problems import documented
from app.models.service import Models
from app.ops import metrics
from app.ops.background import in_a_thread
from app.web.health_schemas import Readiness, Status

router = APIRouter(tags=["health"])


class Exposition:
    """The metrics as text: however many ask, it is written once at a time, beside requests."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[bytes] | None = None

    async def text(self) -> bytes:
        """The metrics of now or a moment later."""
        if self._next is None:
            self._next = asyncio.create_task(self._write())
        return await asyncio.shield(self._next)

    async def _write(self) -> bytes:
        async with self._turn:
            # What is counted from now on may be left out: whoever asks gets the one after.
            self._next = None
            return await in_a_thread(metrics.exposition)


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
async def read_metrics(exposition: Annotated[Exposition, part(Exposition)]) -> Response:
    """Figures for Prometheus."""
    return Response(await exposition.text(), headers={"Content-Type": metrics.CONTENT_TYPE})
