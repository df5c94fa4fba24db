"""Thresholds: what each would do to the last 28 days' scores, before it does."""

from collections.abc import Mapping
from math import isfinite, nan
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request, Response

from app.console import browsers, texts
from app.console.browsers import BadForm
from app.console.charts import histogram
from app.console.viewing import SignedIn, ViewerRoute, go, show
from app.errors import Problem
from app.figures.service import RunningFigures
from app.http.paging import PageParams
from app.http.parts import RunningDatabase
from app.thresholds.effects import EDGES
from app.thresholds.routes import (
    RunningPolicy,
    list_thresholds,
    read_threshold_effects,
    read_thresholds,
    reset_thresholds,
    set_thresholds,
)
from app.thresholds.schemas import LOWEST, PostedThresholds, ThresholdsSet

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

HISTORY = 30
# As the field of the page has it.
MOST_NOTE = 2000
Percent = Annotated[str | None, Query(max_length=32)]
Number = Annotated[str | None, Query(max_length=32)]


class Budget(NamedTuple):
    """What a budget would come to, or why it comes to nothing."""

    chosen: ThresholdsSet | None
    problem: str | None
    reviews_per_day: str
    floor: str


@router.get("/thresholds")
async def show_thresholds(
    request: Request,
    viewer: SignedIn,
    policy: RunningPolicy,
    figures: RunningFigures,
    database: RunningDatabase,
    review: Percent = None,
    decline: Percent = None,
    reviews_per_day: Number = None,
    floor: Percent = None,
    notice: str | None = None,
    note: Annotated[str, Query(max_length=MOST_NOTE)] = "",
    effective_at: Annotated[str, Query(max_length=32)] = "",
    # Without a script the form comes here whole, and this of it says nothing new.
    _: Annotated[str, Query(alias="seen", max_length=80)] = "",
) -> Response:
    """A histogram of scores with two thresholds on it, and what they would do."""
    tenant = viewer.tenant
    now = await read_thresholds(policy, tenant)
    budget = await _budget(policy, tenant, reviews_per_day, floor) if reviews_per_day else None
    wanted = (
        _probability(review, texts.REVIEW_THRESHOLD) if review else now.review,
        _probability(decline, texts.DECLINE_THRESHOLD) if decline else now.decline,
    )
    if budget and budget.chosen:
        wanted = budget.chosen.review, budget.chosen.decline
    tried = await read_threshold_effects(policy, figures, tenant, *wanted)
    in_force = await read_threshold_effects(policy, figures, tenant)
    return await show(
        request,
        "thresholds.html",
        here="thresholds",
        now=now,
        wanted=wanted,
        tried=tried,
        in_force=in_force,
        chart=histogram(tried.bins, wanted),
        edges=EDGES,
        budget=budget,
        history=await list_thresholds(database, tenant, PageParams(HISTORY, None)),
        notice=notice if notice in texts.THRESHOLD_NOTICES else None,
        note=note,
        effective_at=effective_at,
    )


@router.post("/thresholds")
async def change_thresholds(request: Request, viewer: SignedIn, policy: RunningPolicy) -> Response:
    """Set the thresholds, or the budget, that the page has shown the effect of."""
    viewer.caller.check(("manage",))
    form = await browsers.form_of(request)
    if form.get("reviews_per_day"):
        body = _budget_body(form["reviews_per_day"], form.get("floor", ""))
    else:
        wanted = {name: form.get(name, "") for name in ("review", "decline")}
        if form.get("seen") != f"{wanted['review']} {wanted['decline']}":
            # Without a script nobody has seen yet what these would do.
            when = {name: form.get(name) for name in ("note", "effective_at")}
            return go(request, "/thresholds", **wanted, **when, notice="look")
        body = {
            "review": _probability(wanted["review"], texts.REVIEW_THRESHOLD),
            "decline": _probability(wanted["decline"], texts.DECLINE_THRESHOLD),
        }
    posted = browsers.checked(PostedThresholds, {**body, **_when(form)})
    await set_thresholds(posted, policy, viewer.tenant)
    return go(request, "/thresholds", notice="set")


@router.post("/thresholds/reset")
async def reset(request: Request, viewer: SignedIn, policy: RunningPolicy) -> Response:
    """Let the model's own thresholds decide again."""
    viewer.caller.check(("manage",))
    await reset_thresholds(policy, viewer.tenant)
    return go(request, "/thresholds", notice="reset")


async def _budget(
    policy: RunningPolicy, tenant: str, reviews_per_day: str, floor: str | None
) -> Budget:
    body = {**_budget_body(reviews_per_day, floor or ""), "dry_run": True}
    try:
        posted = browsers.checked(PostedThresholds, body)
        chosen = await set_thresholds(posted, policy, tenant)
    except Problem as problem:
        return Budget(None, problem.detail, reviews_per_day, floor or "")
    return Budget(chosen, None, reviews_per_day, floor or "")


def _budget_body(reviews_per_day: str, floor: str) -> dict[str, object]:
    body: dict[str, object] = {"reviews_per_day": _number(reviews_per_day, texts.REVIEWS_PER_DAY)}
    if floor.strip():
        body["floor"] = _probability(floor, texts.FLOOR)
    return body


def _when(form: Mapping[str, str]) -> dict[str, object]:
    """From when on, and why."""
    at = form.get("effective_at", "").strip()
    body: dict[str, object] = {"note": browsers.note_in(form)}
    if at:
        body["effective_at"] = browsers.in_utc(at)
    return body


def _probability(text: str, what: str) -> float:
    """A share that people write in percent."""
    # To the digits that they wrote: 1.2 is .012, and not .012 and a bit.
    share = float(f"{_number(text, what) / 100:.12g}")
    # Also where it is only looked at, and nothing is set.
    if not LOWEST <= share < 1:
        raise BadForm(f"{what}: from {100 * LOWEST:.0e} to less than 100 percent, please.")
    return share


def _number(text: str, what: str) -> float:
    try:
        number = float(text.strip().removesuffix("%").strip())
    except ValueError:
        number = nan
    if not isfinite(number):
        raise BadForm(f"{what}: a number, please, such as 1.5.")
    return number
