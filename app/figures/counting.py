"""Counting what became of the reviews of four weeks."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from app.db.connection import Connection
from app.figures import store
from app.figures.records import DecidedReviews
from app.figures.schemas import FigureDay, PersonFigure, TeamFigures, WaitingFigure
from app.learner.transaction import DAY_US
from app.times import now_us, text_of

Key = TypeVar("Key")
NAME, DAYS = "team", 28
# A list of people ends somewhere; labels name whom their senders please.
MOST_PEOPLE = 100


class Verdicts(NamedTuple):
    """How many reviews were decided, by what their labels say."""

    frauds: int = 0
    legitimates: int = 0

    @property
    def decided(self) -> int:
        return self.frauds + self.legitimates

    @property
    def precision(self) -> float | None:
        """The share of frauds, None where none was decided."""
        return self.frauds / self.decided if self.decided else None


async def count_team(connection: Connection, tenant: str) -> TeamFigures:
    """The figures of the last 28 days with today, in UTC."""
    today = now_us() // DAY_US
    first = today + 1 - DAYS
    opened = await store.opened_by_day(connection, tenant, first * DAY_US)
    decided = await store.decided(connection, tenant, first * DAY_US)
    alerts = {(row.day, row.kind): row.reviews for row in opened}
    by_day = _by(decided, lambda row: row.day)
    by_person = _by(decided, lambda row: row.analyst)
    by_hours: Counter[int | None] = Counter()
    for row in decided:
        by_hours[row.hours] += row.reviews
    people = sorted(by_person, key=lambda name: (-by_person[name].decided, name or ""))
    return TeamFigures(
        since=text_of(first * DAY_US),
        days=[
            FigureDay(
                start=text_of(day * DAY_US),
                opened=alerts.get((day, "review"), 0),
                declined=alerts.get((day, "decline"), 0),
                decided=verdicts.decided,
                frauds=verdicts.frauds,
                legitimates=verdicts.legitimates,
                precision=verdicts.precision,
            )
            for day in range(first, today + 1)
            for verdicts in [by_day.get(day, Verdicts())]
        ],
        waiting=[
            WaitingFigure(hours=hours, decided=by_hours[hours]) for hours in (*store.HOURS, None)
        ],
        people=[
            PersonFigure(
                analyst=name,
                decided=by_person[name].decided,
                frauds=by_person[name].frauds,
                legitimates=by_person[name].legitimates,
            )
            for name in people[:MOST_PEOPLE]
        ],
    )


def _by(
    rows: Iterable[DecidedReviews], key: Callable[[DecidedReviews], Key]
) -> dict[Key, Verdicts]:
    """The verdicts of rows, by something of each."""
    found: dict[Key, Verdicts] = {}
    for row in rows:
        frauds, legitimates = found.get(key(row), Verdicts())
        if row.is_fraud:
            frauds += row.reviews
        else:
            legitimates += row.reviews
        found[key(row)] = Verdicts(frauds, legitimates)
    return found
