"""Models: which decides, how another compares, its report, and how far traffic has drifted."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from app.console import browsers, texts
from app.console.browsers import REPORT_HEADERS
from app.console.charts import compared, heat_map
from app.console.viewing import SignedIn, ViewerRoute, go, show
from app.errors import Problem
from app.models.routes import (
    RunningJobs,
    RunningModels,
    RunningSettings,
    RunningShadowing,
    activate_model,
    compare_model,
    end_shadow,
    list_comparisons,
    list_drift,
    list_models,
    measure_drift,
    promote_model,
    read_report,
    roll_back,
    shadow_model,
)
from app.models.schemas import Job, ModelList, Promotion

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

Name = Annotated[str | None, Query(min_length=1, max_length=128)]


@router.get("/models")
async def show_models(
    request: Request,
    viewer: SignedIn,
    shadowing: RunningShadowing,
    models: RunningModels,
    jobs: RunningJobs,
    name: Name = None,
    notice: str | None = None,
) -> Response:
    """The models there are, and all about one of them: by default the shadow, or the active one."""
    listed = await list_models(shadowing, viewer.tenant)
    chosen = name or _default(listed, "shadow")
    comparisons = (await list_comparisons(chosen, models, jobs, viewer.tenant)).data
    newest = next((job for job in comparisons if job.result), None)
    return await show(
        request,
        "models.html",
        here="models",
        models=listed.data,
        chosen=chosen,
        state=next((model for model in listed.data if model.name == chosen), None),
        comparisons=comparisons,
        compared=newest,
        bars=compared(newest.result) if newest and newest.result else [],
        is_waiting=_is_waiting(comparisons),
        has_report=await _has_report(chosen, models, viewer.tenant),
        notice=notice if notice in texts.MODEL_NOTICES else None,
    )


@router.get("/report")
async def show_report(viewer: SignedIn, models: RunningModels, name: str) -> Response:
    """A model's report as it was written: in a frame, without scripts, and without our cookie."""
    report = await read_report(name, models, viewer.tenant)
    return HTMLResponse(report.html, headers=REPORT_HEADERS)


@router.post("/models/compare")
async def compare(
    request: Request,
    viewer: SignedIn,
    models: RunningModels,
    jobs: RunningJobs,
    settings: RunningSettings,
) -> Response:
    """Begin a comparison with the active model."""

    async def begin(name: str, _: str) -> None:
        await compare_model(name, models, jobs, settings, viewer.tenant, Response())

    return await _done(request, viewer, begin, None)


@router.post("/models/shadow")
async def shadow(request: Request, viewer: SignedIn, shadowing: RunningShadowing) -> Response:
    """Try a model out beside the active one, or no longer."""

    async def change(name: str, way: str) -> None:
        act = end_shadow if way == "end" else shadow_model
        await act(name, shadowing, viewer.tenant)

    return await _done(request, viewer, change, "shadow")


@router.post("/models/promote")
async def promote(
    request: Request,
    viewer: SignedIn,
    models: RunningModels,
    jobs: RunningJobs,
    shadowing: RunningShadowing,
) -> Response:
    """Let a model decide that a comparison says is no worse."""

    async def change(name: str, comparison: str) -> None:
        posted = browsers.checked(Promotion, {"comparison": comparison})
        await promote_model(name, posted, models, jobs, shadowing, viewer.tenant)

    return await _done(request, viewer, change, "active")


@router.post("/models/activate")
async def activate(request: Request, viewer: SignedIn, shadowing: RunningShadowing) -> Response:
    """Let a model decide, whatever comparisons say."""

    async def change(name: str, _: str) -> None:
        await activate_model(name, shadowing, viewer.tenant)

    return await _done(request, viewer, change, "active")


@router.post("/models/roll-back")
async def roll_back_to(request: Request, viewer: SignedIn, shadowing: RunningShadowing) -> Response:
    """Let the model decide that did before."""

    async def change(_: str, __: str) -> None:
        await roll_back(shadowing, viewer.tenant)

    return await _done(request, viewer, change, "active")


@router.get("/drift")
async def show_drift(
    request: Request,
    viewer: SignedIn,
    shadowing: RunningShadowing,
    models: RunningModels,
    jobs: RunningJobs,
    name: Name = None,
) -> Response:
    """How far each feature is, day by day, from what a model was trained on."""
    listed = await list_models(shadowing, viewer.tenant)
    chosen = name or _default(listed, "active")
    measured = (await list_drift(chosen, models, jobs, viewer.tenant)).data
    newest = next((job for job in measured if job.result), None)
    return await show(
        request,
        "drift.html",
        here="drift",
        models=listed.data,
        chosen=chosen,
        last=measured[0] if measured else None,
        measured=newest,
        rows=heat_map(newest.result) if newest and newest.result else [],
        is_waiting=_is_waiting(measured),
    )


@router.post("/drift")
async def begin_drift(
    request: Request,
    viewer: SignedIn,
    models: RunningModels,
    jobs: RunningJobs,
    settings: RunningSettings,
) -> Response:
    """Begin a measurement of drift."""
    viewer.caller.check(("manage",))
    name = browsers.id_in(await browsers.form_of(request), "name", texts.MODEL)
    await measure_drift(name, models, jobs, settings, viewer.tenant, Response())
    return go(request, "/drift", name=name)


async def _done(
    request: Request,
    viewer: SignedIn,
    change: Callable[[str, str], Awaitable[None]],
    notice: str | None,
) -> Response:
    """Do what a form of the page wants, and back to the model that it is about."""
    viewer.caller.check(("manage",))
    form = await browsers.form_of(request)
    name = browsers.id_in(form, "name", texts.MODEL)
    await change(name, form.get("value", ""))
    return go(request, "/models", name=name, notice=notice)


async def _has_report(name: str, models: RunningModels, tenant: str) -> bool:
    try:
        await read_report(name, models, tenant)
    except Problem:
        return False
    return True


def _is_waiting(jobs: Sequence[Job]) -> bool:
    """Whether something is to come, which the page fetches by itself."""
    return any(job.status in ("queued", "running") for job in jobs)


def _default(listed: ModelList, role: str) -> str:
    """The name of the model in this role, or of the active one."""
    active = [model.name for model in listed.data if model.active]
    shadow = [model.name for model in listed.data if model.shadow]
    return (shadow + active if role == "shadow" else active or [listed.data[0].name])[0]
