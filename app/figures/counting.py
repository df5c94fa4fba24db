"""Counting what became of the reviews of four weeks."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from app.db.connection import Connection
from app.figures import store
from app.figures.records import Decided
from app.figures.schemas import FigureDay, PersonFigure, TeamFigures, WaitingFigure
from app.learner.transaction import DAY_US
from app.times import now_us, text_of

Key = TypeVar("Key")
NAME, DAYS = "team", 28
# A list of people ends somewhere; labels name whom their senders please.
MOST_PEOPLE = 100


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
    people = sorted(by_person.items(), key=lambda counted: (-sum(counted[1]), counted[0] or ""))
    return TeamFigures(
        since=text_of(first * DAY_US),
        days=[
            FigureDay(
                start=text_of(day * DAY_US),
                opened=alerts.get((day, "review"), 0),
                declined=alerts.get((day, "decline"), 0),
                decided=sum(by_day.get(day, (0, 0))),
                frauds=by_day.get(day, (0, 0))[0],
                legitimates=by_day.get(day, (0, 0))[1],
                precision=_share(by_day.get(day, (0, 0))),
            )
            for day in range(first, today + 1)
        ],
        waiting=[
            WaitingFigure(hours=hours, decided=by_hours[hours]) for hours in (*store.HOURS, None)
        ],
        people=[
            PersonFigure(analyst=name, decided=sum(both), frauds=both[0], legitimates=both[1])
            for name, both in people[:MOST_PEOPLE]
        ],
    )


def _by(rows: Iterable[Decided], key: Callable[[Decided], Key]) -> dict[Key, tuple[int, int]]:
    """How many frauds and legitimate ones there are, by something of a row."""
    found: dict[Key, tuple[int, int]] = {}
    for row in rows:
        frauds, legitimates = found.get(key(row), (0, 0))
        if row.is_fraud:
            frauds += row.reviews
        else:
            legitimates += row.reviews
        found[key(row)] = frauds, legitimates
    return found


def _share(both: tuple[int, int]) -> float | None:
    frauds, legitimates = both
    return frauds / (frauds + legitimates) if frauds + legitimates else None
