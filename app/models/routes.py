"""Models: listed, activated, rolled back, tried out in shadow, promoted. No restart."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Response

from app.http.authentication import MayManage, MayRead
from app.http.keyed import KeyedRoute
from app.http.parts import part
from app.http.problems import EVERYWHERE, RateLimited, documented
from app.jobs.errors import JobNotFound, TooManyJobs
from app.jobs.records import Job
from app.jobs.service import JobKind, Jobs
from app.learner.validity import ID
from app.models.comparison import Roles, ShadowService
from app.models.drift import check_profile
from app.models.errors import ModelNotFound, ModelRefused, ModelUnavailable, ReportNotFound
from app.models.schemas import (
    ComparisonJob,
    ComparisonJobs,
    ComparisonRequest,
    DriftJob,
    DriftJobs,
    DriftRequest,
    JobError,
    ModelComparison,
    ModelDrift,
    ModelList,
    ModelReport,
    ModelState,
    Promotion,
)
from app.models.service import Models
from app.models.shelf import Shelved
from app.scoring.routes import WRITES
from app.settings import Settings
from app.times import text_of

router = APIRouter(
    prefix="/v1/models",
    tags=["models"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningJobs = Annotated[Jobs, part(Jobs)]
RunningModels = Annotated[Models, part(Models)]
RunningSettings = Annotated[Settings, part(Settings)]
RunningShadowing = Annotated[ShadowService, part(ShadowService)]
CHANGES = documented(ModelNotFound, ModelRefused)
Name = Annotated[str, Path(min_length=1, max_length=128, examples=["default"])]
JobId = Annotated[
    str,
    Path(min_length=1, max_length=32, pattern=ID.pattern, examples=["5f3c9a0b12d4e678"]),
]
MOST_LISTED = 10
STARTS = {**WRITES, **documented(TooManyJobs, RateLimited)}
STARTED: dict[str, Any] = {
    "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}}
}


@router.get("")
async def list_models(shadowing: RunningShadowing, tenant: MayRead) -> ModelList:
    """All checkpoints, and what each does for this tenant."""
    roles = await shadowing.roles(tenant)
    return ModelList(
        data=[
            ModelState(
                name=model.name,
                digest=model.digest,
                active=model.name == roles.active,
                shadow=roles.shadow is not None and model.name == roles.shadow.name,
                refused=model.refused or _replaced(model, roles),
            )
            for model in roles.shelf
        ]
    )


@router.post("/rollback", responses=documented(ModelRefused, ModelUnavailable, *EVERYWHERE))
async def roll_back(shadowing: RunningShadowing, tenant: MayManage) -> ModelList:
    """Activate the checkpoint that was active before."""
    await shadowing.roll_back(tenant)
    return await list_models(shadowing, tenant)


@router.post("/{name}/activate", responses=CHANGES)
async def activate_model(name: Name, shadowing: RunningShadowing, tenant: MayManage) -> ModelList:
    """Let a checkpoint decide from the next transaction on; accounts adapt to it lazily."""
    await shadowing.activate(tenant, name)
    return await list_models(shadowing, tenant)


@router.post("/{name}/shadow", responses=CHANGES)
async def shadow_model(name: Name, shadowing: RunningShadowing, tenant: MayManage) -> ModelList:
    """Score beside the active checkpoint with this one, in shadow."""
    await shadowing.shadow(tenant, name)
    return await list_models(shadowing, tenant)


@router.delete("/{name}/shadow", responses=documented(ModelNotFound))
async def end_shadow(name: Name, shadowing: RunningShadowing, tenant: MayManage) -> ModelList:
    """End the shadow."""
    roles = await shadowing.roles(tenant)
    if roles.shadow is None or roles.shadow.name != name:
        raise ModelNotFound(f"Model {name!r} is not in shadow.")
    await shadowing.shadow(tenant, None)
    return await list_models(shadowing, tenant)


@router.post("/{name}/comparisons", status_code=202, responses={202: STARTED, **CHANGES, **STARTS})
async def compare_model(
    name: Name,
    models: RunningModels,
    jobs: RunningJobs,
    settings: RunningSettings,
    tenant: MayManage,
    response: Response,
    posted: ComparisonRequest | None = None,
) -> ComparisonJob:
    """Compute, beside requests, what this checkpoint would have decided on the newest
    transactions, up to 5,000; the answer says where the result will be."""
    await models.shelf.checkpoint(name)
    days = (posted or ComparisonRequest()).days
    job = await jobs.submit(tenant, "comparison", name, days)
    response.headers["Location"] = _address(settings.prefix, name, "comparisons", job.id)
    return _comparison(job)


@router.get("/{name}/comparisons", responses=documented(ModelNotFound))
async def list_comparisons(
    name: Name, models: RunningModels, jobs: RunningJobs, tenant: MayRead
) -> ComparisonJobs:
    """The newest 10 comparisons of this model that are kept, the newest first."""
    found = await _listed(name, models, jobs, tenant, "comparison")
    return ComparisonJobs(data=[_comparison(job) for job in found])


@router.get("/{name}/comparisons/{comparison_id}", responses=documented(JobNotFound))
async def read_comparison(
    name: Name, comparison_id: JobId, jobs: RunningJobs, tenant: MayRead
) -> ComparisonJob:
    """How far a comparison is, and what came of it."""
    return _comparison(await jobs.find(tenant, "comparison", name, comparison_id))


@router.post("/{name}/drift", status_code=202, responses={202: STARTED, **CHANGES, **STARTS})
async def measure_drift(
    name: Name,
    models: RunningModels,
    jobs: RunningJobs,
    settings: RunningSettings,
    tenant: MayManage,
    response: Response,
    posted: DriftRequest | None = None,
) -> DriftJob:
    """Compute, beside requests, how far this tenant's traffic is from the data that a checkpoint
    was trained on; the answer says where the result will be."""
    checkpoint = await models.shelf.checkpoint(name)
    check_profile(checkpoint.metadata.profile, name)
    days = (posted or DriftRequest()).days
    job = await jobs.submit(tenant, "drift", name, days)
    response.headers["Location"] = _address(settings.prefix, name, "drift", job.id)
    return _drift(job)


@router.get("/{name}/drift", responses=documented(ModelNotFound))
async def list_drift(
    name: Name, models: RunningModels, jobs: RunningJobs, tenant: MayRead
) -> DriftJobs:
    """The newest 10 measurements of this model's drift that are kept, the newest first."""
    found = await _listed(name, models, jobs, tenant, "drift")
    return DriftJobs(data=[_drift(job) for job in found])


@router.get("/{name}/drift/{drift_id}", responses=documented(JobNotFound))
async def read_drift(name: Name, drift_id: JobId, jobs: RunningJobs, tenant: MayRead) -> DriftJob:
    """How far a measurement of drift is, and what came of it."""
    return _drift(await jobs.find(tenant, "drift", name, drift_id))


@router.get("/{name}/report", responses=documented(ModelNotFound, ModelRefused, ReportNotFound))
async def read_report(name: Name, models: RunningModels, tenant: MayRead) -> ModelReport:
    """The report of this model's training, where its folder has one."""
    await models.shelf.check(name)
    return ModelReport(name=name, html=await models.shelf.report(name))


@router.post(
    "/{name}/promote", responses={**WRITES, **CHANGES, **documented(JobNotFound, ModelNotFound)}
)
async def promote_model(
    name: Name,
    posted: Promotion,
    models: RunningModels,
    jobs: RunningJobs,
    shadowing: RunningShadowing,
    tenant: MayManage,
) -> ModelComparison:
    """Activate it, if a comparison says that it ranks the labelled frauds at least as high as the
    active one."""
    await models.shelf.checkpoint(name)
    job = await jobs.find(tenant, "comparison", name, posted.comparison)
    if job.result is None:
        raise ModelRefused(f"The comparison {job.id!r} is {job.status}: it has no result.")
    compared = ModelComparison.model_validate_json(job.result)
    await shadowing.promote(tenant, name, compared)
    return compared


def _replaced(model: Shelved, roles: Roles) -> str | None:
    if model.name != roles.active or model.digest == roles.active_digest:
        return None
    return f"Model {model.name!r} is no longer the checkpoint that decides: activate it to use it."


async def _listed(name: str, models: Models, jobs: Jobs, tenant: str, kind: JobKind) -> list[Job]:
    """The newest jobs of a model, which may be gone by now. Raises ModelNotFound."""
    # Other names are no model's, and PostgreSQL could not look for some of them.
    found = await jobs.listed(tenant, kind, name, MOST_LISTED) if ID.allows(name) else []
    if not found:
        models.shelf.expect(name)
    return found


def _address(prefix: str, name: str, kind: str, job_id: str) -> str:
    """The path of a job, as callers see it."""
    return f"{prefix}/v1/models/{quote(name, safe='')}/{kind}/{job_id}"


def _comparison(job: Job) -> ComparisonJob:
    result = ModelComparison.model_validate_json(job.result) if job.result else None
    return ComparisonJob(**_state(job), days=job.days, result=result)


def _drift(job: Job) -> DriftJob:
    result = ModelDrift.model_validate_json(job.result) if job.result else None
    return DriftJob(**_state(job), days=int(job.days), result=result)


def _state(job: Job) -> dict[str, Any]:
    """What jobs of both kinds say of themselves."""
    return {
        "id": job.id,
        "name": job.model,
        "status": job.status,
        "created_at": text_of(job.created_at_us),
        "started_at": text_of(job.started_at_us) if job.started_at_us is not None else None,
        "finished_at": text_of(job.finished_at_us) if job.finished_at_us is not None else None,
        "error": JobError.model_validate_json(job.error) if job.error else None,
    }
