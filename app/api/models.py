"""Models: listed, activated, rolled back, tried out in shadow, promoted. No restart."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.authentication import MayAdminister, MayRead, RunningService
from app.comparison import Comparison, Quality
from app.drift import Drift
from app.errors import (
    EVERYWHERE,
    ModelNotFound,
    ModelRefused,
    ModelUnavailable,
    documented,
)
from app.schemas.models import (
    DriftDay,
    Drifted,
    DriftProfile,
    FraudShareDrift,
    ModelComparison,
    ModelDrift,
    ModelList,
    ModelQuality,
    ModelState,
    OutcomeChange,
)
from app.service import Service
from app.times import text_of

router = APIRouter(
    prefix="/v1/models",
    tags=["models"],
    responses=documented(*EVERYWHERE),
)
CHANGES = documented(ModelNotFound, ModelRefused)
Name = Annotated[str, Path(min_length=1, max_length=128, examples=["default"])]
Days = Annotated[float, Query(gt=0, le=365, description="How far back.")]


@router.get("")
async def list_models(service: RunningService, tenant: MayRead) -> ModelList:
    """The checkpoints that there are, and what each does for this tenant."""
    return await _models(service, tenant)


@router.post("/rollback", responses=documented(ModelRefused, ModelUnavailable, *EVERYWHERE))
async def roll_back(service: RunningService, tenant: MayAdminister) -> ModelList:
    """Let the checkpoint decide that did before the active one."""
    await service.shadowing.roll_back(tenant)
    return await _models(service, tenant)


@router.post("/{name}/activate", responses=CHANGES)
async def activate_model(name: Name, service: RunningService, tenant: MayAdminister) -> ModelList:
    """Let a checkpoint decide from the next transaction on; accounts adapt to it lazily."""
    await service.shadowing.activate(tenant, name)
    return await _models(service, tenant)


@router.post("/{name}/shadow", responses=CHANGES)
async def shadow_model(name: Name, service: RunningService, tenant: MayAdminister) -> ModelList:
    """Try a checkpoint out beside the active one."""
    await service.shadowing.shadow(tenant, name)
    return await _models(service, tenant)


@router.delete("/{name}/shadow", responses=documented(ModelNotFound))
async def end_shadow(name: Name, service: RunningService, tenant: MayAdminister) -> ModelList:
    """Try it out no longer."""
    roles = await service.shadowing.roles(tenant)
    if roles.shadow is None or roles.shadow.name != name:
        raise ModelNotFound(f"Model {name!r} is not in shadow.")
    await service.shadowing.shadow(tenant, None)
    return await _models(service, tenant)


@router.get("/{name}/comparison", responses=CHANGES)
async def compare_model(
    name: Name, service: RunningService, tenant: MayRead, days: Days = 28.0
) -> ModelComparison:
    """What this checkpoint would have decided on the newest transactions, up to 5,000."""
    return _comparison(name, await service.shadowing.compare(tenant, name, days))


@router.get("/{name}/drift", responses=CHANGES)
async def model_drift(
    name: Name,
    service: RunningService,
    tenant: MayRead,
    days: Annotated[int, Query(ge=1, le=365, description="Of these, with today.")] = 28,
) -> ModelDrift:
    """How far this tenant's traffic is from the data that a checkpoint was trained on."""
    return _drift(name, await service.drifting.of_model(tenant, name, days))


@router.post("/{name}/promote", responses=CHANGES)
async def promote_model(
    name: Name, service: RunningService, tenant: MayAdminister, days: Days = 28.0
) -> ModelComparison:
    """Activate it, if it ranks the labelled frauds at least as high as the active one."""
    return _comparison(name, await service.shadowing.promote(tenant, name, days))


async def _models(service: Service, tenant: str) -> ModelList:
    roles = await service.shadowing.roles(tenant)
    return ModelList(
        data=[
            ModelState(
                name=one.name,
                digest=one.digest,
                active=one.name == roles.active,
                shadow=roles.shadow is not None and one.name == roles.shadow.name,
                refused=one.refused,
            )
            for one in roles.shelf
        ]
    )


def _comparison(name: str, found: Comparison) -> ModelComparison:
    return ModelComparison(
        name=name,
        since=text_of(found.since_us),
        transactions=found.transactions,
        agreement=found.agreement,
        changes=[
            OutcomeChange.model_validate(
                {"active": active, "shadow": shadow, "transactions": count}
            )
            for (active, shadow), count in sorted(found.outcomes.items())
            if active != shadow
        ],
        shift=found.shift,
        frauds=found.frauds,
        legitimates=found.legitimates,
        active=_quality(found.active),
        shadow=_quality(found.shadow),
        better=found.is_better,
    )


def _drift(name: str, found: Drift) -> ModelDrift:
    furthest = sorted(found.features, key=lambda one: -(one.psi or 0.0))
    return ModelDrift(
        name=name,
        days=[
            DriftDay(
                start=text_of(day.start_us),
                transactions=day.transactions,
                labelled=day.labelled,
                frauds=day.frauds,
            )
            for day in found.days
        ],
        transactions=found.transactions,
        sampled=found.sampled,
        profile=DriftProfile(
            first=found.profile.first,
            last=found.profile.last,
            transactions=found.profile.transactions,
            frauds=found.profile.frauds,
        ),
        drifted=[one.name for one in [found.score, *furthest] if one.drifted],
        fraud_share=FraudShareDrift.model_validate(found.fraud_share._asdict()),
        score=Drifted.model_validate(found.score._asdict()),
        features=[Drifted.model_validate(one._asdict()) for one in furthest],
    )


def _quality(found: Quality) -> ModelQuality:
    return ModelQuality.model_validate(found._asdict())
