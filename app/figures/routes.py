"""Figures of a team: alerts, decisions, waiting."""

from fastapi import APIRouter

from app.figures import counting
from app.figures.schemas import CountedFigures, TeamFigures
from app.figures.service import RunningFigures
from app.http.authentication import MayRead
from app.http.keyed import KeyedRoute
from app.http.problems import EVERYWHERE, documented
from app.times import text_of

router = APIRouter(
    prefix="/v1",
    tags=["reviews"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)


@router.get("/figures")
async def read_figures(figures: RunningFigures, tenant: MayRead) -> CountedFigures:
    """Alerts, decisions and their precision of 28 days by day, how long they waited, by person.

    Counted now and then: what counting takes says how often, a hundredth of the time at most.
    """
    kept = await figures.of(
        tenant,
        counting.NAME,
        TeamFigures,
        lambda connection: counting.count_team(connection, tenant),
    )
    return CountedFigures(**dict(kept.content), counted_at=text_of(kept.counted_at_us))
