"""Thresholds: from which probability a tenant's transactions are reviewed and declined."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.errors import FieldError, ValidationFailed
from app.figures.service import RunningFigures
from app.http.authentication import MayManage, MayRead
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_TIMES, Paging
from app.http.parts import RunningDatabase, part
from app.http.problems import EVERYWHERE, documented
from app.learner.decisions import Thresholds
from app.scoring.routes import WRITES
from app.thresholds import effects
from app.thresholds import store as threshold_store
from app.thresholds.errors import TooFewScores
from app.thresholds.records import TenantThresholds
from app.thresholds.schemas import (
    LOWEST,
    PostedThresholds,
    ScoreHistogram,
    ThresholdEffects,
    ThresholdsInForce,
    ThresholdsKept,
    ThresholdsSet,
)
from app.thresholds.service import Budget, StatedThresholds, TenantPolicy
from app.times import text_of

router = APIRouter(
    prefix="/v1/thresholds",
    tags=["thresholds"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningPolicy = Annotated[TenantPolicy, part(TenantPolicy)]
Threshold = Annotated[float | None, Query(ge=LOWEST, lt=1, description="By default that in force.")]


@router.get("")
async def read_thresholds(policy: RunningPolicy, tenant: MayRead) -> ThresholdsInForce:
    """The thresholds in force, and what is planned next."""
    found = await policy.in_force(tenant)
    return ThresholdsInForce(
        review=found.now.review,
        decline=found.now.decline,
        source="tenant" if found.own else "model",
        own=_kept(found.own) if found.own else None,
        next=_kept(found.planned) if found.planned else None,
    )


@router.post("", responses={**WRITES, **documented(TooFewScores)})
async def set_thresholds(
    posted: PostedThresholds, policy: RunningPolicy, tenant: MayManage
) -> ThresholdsSet:
    """Set thresholds from a time on, or let a budget of reviews choose them.

    Earlier decisions stay as they were. With `dry_run` nothing is set: the answer says what would
    be, and what it would have done lately.
    """
    how = posted.effective_at, posted.note, posted.dry_run
    if posted.has_budget:
        decline = posted.decline if "decline" in posted.model_fields_set else None
        floor = posted.floor if "floor" in posted.model_fields_set else None
        budget = Budget(posted.reviews_per_day, decline, floor)
        kept = await policy.keep_to_budget(tenant, budget, *how)
    else:
        stated = Thresholds(posted.review, posted.decline)
        kept = await policy.state(tenant, stated, *how)
    expected = kept.expected
    return ThresholdsSet(
        **_kept(kept.row).model_dump(),
        expected_reviews_per_day=expected.reviews_per_day if expected else None,
        expected_declines_per_day=expected.declines_per_day if expected else None,
        floor_reached=kept.floor_reached,
        notice=_notice(kept) if kept.floor_reached else None,
        dry_run=posted.dry_run,
    )


@router.delete("")
async def reset_thresholds(policy: RunningPolicy, tenant: MayManage) -> ThresholdsInForce:
    """Let the active model's own thresholds decide again, from now on; planned ones are off.

    The history stays.
    """
    await policy.reset(tenant)
    return await read_thresholds(policy, tenant)


@router.get("/effects")
async def read_threshold_effects(
    policy: RunningPolicy,
    figures: RunningFigures,
    tenant: MayRead,
    review: Threshold = None,
    decline: Threshold = None,
) -> ThresholdEffects:
    """What thresholds would have done with the scores of the last 28 days, by their labels.

    Counted now and then: what counting takes says how often, a hundredth of the time at most.
    """
    now, _, _ = await policy.in_force(tenant)
    wanted = Thresholds(
        now.review if review is None else review, now.decline if decline is None else decline
    )
    if wanted.review > wanted.decline:
        message = f"review may not be above decline, which is {wanted.decline:g}"
        raise ValidationFailed(f"review: {message}", [FieldError("review", message)])
    kept = await figures.of(
        tenant,
        effects.NAME,
        ScoreHistogram,
        lambda connection: effects.count_histogram(connection, tenant),
    )
    return ThresholdEffects(
        **dict(kept.content),
        counted_at=text_of(kept.counted_at_us),
        effect=effects.effect(kept.content, wanted),
    )


@router.get("/history")
async def list_thresholds(
    database: RunningDatabase, tenant: MayRead, paging: Paging
) -> Page[ThresholdsKept]:
    """All thresholds that were ever in force or are planned, the newest first."""
    listed = paging.of(BY_TIMES, "thresholds")
    async with database.read() as connection:
        found = await threshold_store.listed_thresholds(
            connection, tenant, listed.after, listed.rows
        )
        return await listed.page(
            found, _kept, lambda row: (row.effective_at_us, row.recorded_at_us)
        )


def _kept(row: TenantThresholds) -> ThresholdsKept:
    return ThresholdsKept(
        review=row.review,
        decline=row.decline,
        effective_at=text_of(row.effective_at_us),
        recorded_at=text_of(row.recorded_at_us),
        reviews_per_day=row.reviews_per_day,
        chosen_on=row.chosen_on,
        chosen_on_days=row.chosen_on_days,
        note=row.note,
        floor=row.floor,
        source="model" if row.is_reset else "tenant",
    )


def _notice(kept: StatedThresholds) -> str:
    assert kept.expected is not None
    return (
        f"The budget cannot be spent above the floor of {kept.row.floor:g}: lately "
        f"{kept.expected.reviews_per_day:.3g} payments a day were at or above it and below decline."
    )
