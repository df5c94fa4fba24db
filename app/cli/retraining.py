"""`quickstudy retrain`"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from app.cli.terminal import console, say_why
from app.cli.training import Device, GlobalSteps, MetaSteps, Seed, options_of
from app.errors import SetupError
from app.keys.scopes import DEFAULT_TENANT

# All else is imported inside the functions: `quickstudy --help` takes as long as what it imports.
if TYPE_CHECKING:
    from rich.table import Table

    from app.db.database import Database
    from app.db.patience import Patience
    from app.learner.checkpoint import Checkpoint
    from app.models.schemas import ModelComparison
    from app.training.train import Options, Status

# In the folder of models: the lock, and the folder in which a model is made.
LOCK, UNFINISHED = ".retraining.lock", ".retraining-"
POLL_SECONDS, LONGEST_SECONDS = 0.5, 3600.0


def retrain(
    tenant: Annotated[str, typer.Option(help="Whose payments and labels.")] = DEFAULT_TENANT,
    held_out_days: Annotated[
        float,
        typer.Option(
            min=1.0, max=90.0, help="The newest days: kept from the new model, to compare it on."
        ),
    ] = 14.0,
    least_labels: Annotated[
        int, typer.Option(min=1, help="Train only if so many labels are new to the active model.")
    ] = 100,
    device: Device = "auto",
    seed: Seed = 0,
    global_steps: GlobalSteps = None,
    meta_steps: MetaSteps = None,
) -> None:
    """Train on the database's payments, compare with the active model, and shadow the new one.

    For cron: where little is new it ends at once, and never do two run at a time. A person
    promotes the model.
    """
    import asyncio

    from app.cli.keys import on_database
    from app.db.patience import Patience
    from app.settings import Settings
    from app.times import now_us

    settings = Settings()
    folder = settings.models or settings.model.resolve().parent
    until_us = now_us() - int(held_out_days * 86_400e6)
    with _alone(folder), _aside(folder) as aside:
        file = aside / "payments.parquet"
        patience = Patience(say_why)
        active = on_database(lambda database: _exported(database, tenant, file, patience), patience)
        new = _cut(file, until_us, active)
        if new < least_labels:
            console.print(
                f"{new:,} labels are new to {escape(active.model)}: nothing is trained below "
                f"{least_labels:,} (--least-labels).",
                soft_wrap=True,
            )
            return
        # As the active model: who trained it without trees had a reason.
        algorithm, trees = active.metadata.algorithm, active.metadata.options.get("trees", True)
        options = options_of(seed, algorithm, global_steps, meta_steps, bool(trees))
        name = _trained(aside, folder, active, options, device)
    job, compared = asyncio.run(_compared(tenant, name, held_out_days, patience))
    console.print(_table(name, compared), _verdict(name, job, compared), soft_wrap=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises SetupError where another retraining uses this folder of models, or there is none."""
    import fcntl

    if not folder.is_dir():
        raise SetupError(f"there is no folder {folder}: QUICKSTUDY_MODELS names that of the models")
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another retraining uses {folder}: wait until it ends") from None
        yield


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A folder for payments and an unfinished model, on the disk of the models; gone afterwards."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as aside:
        yield Path(aside)


async def _exported(
    database: "Database", tenant: str, file: Path, patience: "Patience"
) -> "Checkpoint":
    """Write the tenant's payments with their labels; the model that is active."""
    from app.history.exporting import export, export_spec
    from app.learner.checkpoint import Checkpoint
    from app.models.shelf import Shelf
    from app.settings import Settings

    settings = Settings()
    shelf = Shelf(settings, Checkpoint.load(settings.model))

    async def found() -> "Checkpoint":
        async with database.read() as connection:
            return await shelf.active(connection, tenant)

    active = await patience.run(found)
    spec = export_spec(active.metadata.spec, file.stem)
    await export(database, tenant, spec, file, patience)
    return active


def _cut(file: Path, until_us: int, active: "Checkpoint") -> int:
    """Leave in the file what was known by `until_us`; how many labels of it are new to `active`.

    New are those that became known after the last payment that it was trained on.
    """
    from datetime import datetime

    import polars as pl

    from app.history.exporting import DELAY, LABEL
    from app.learner.transaction import DAY_US, SECOND_US
    from app.times import text_of

    occurred_us = (
        pl.col("occurred_at").str.to_datetime(time_unit="us", time_zone="UTC").dt.epoch("us")
    )
    known_us = occurred_us + pl.col(DELAY).fill_null(0) * DAY_US
    is_known = (known_us <= until_us) & pl.col(LABEL).is_not_null()
    frame = pl.read_parquet(file).filter(pl.col("occurred_at") < text_of(until_us))
    frame = frame.with_columns(pl.when(is_known).then(pl.col(LABEL, DELAY)))
    frame.write_parquet(file)
    last = active.metadata.data.last
    last_us = datetime.fromisoformat(last).timestamp() * SECOND_US if last else 0.0
    is_new = known_us > last_us
    return frame.filter(is_new & pl.col(LABEL).is_not_null()).height


def _trained(
    aside: Path, folder: Path, active: "Checkpoint", options: "Options", device: str
) -> str:
    """Train on the file aside, by the rates and thresholds of the active model; its name."""
    from datetime import UTC, datetime

    from app.cli.progress import TrainingProgress
    from app.learner.spec import DatasetSpec
    from app.training.devices import training_device
    from app.training.run import Source, train_checkpoint

    file = aside / "payments.parquet"
    spec = DatasetSpec.load(str(file.with_suffix(".toml")))
    on, metadata = training_device(device), active.metadata
    source = Source.read(file, spec, metadata.rates)
    made = aside / f"retrained-{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
    with TrainingProgress() as progress:

        def watch(status: "Status") -> bool:
            progress.show("", status)
            return True

        stated = metadata.decisions.stated
        train_checkpoint(source, spec, made, options, on, watch, stated=stated)
    # At once, and whole: servers list what lies in the folder.
    made.rename(folder / made.name)
    return made.name


async def _compared(
    tenant: str, name: str, days: float, patience: "Patience"
) -> "tuple[str, ModelComparison]":
    """Put a model in shadow and compare it; the id of the comparison, which is stored, and that.

    Raises SetupError where it fails.
    """
    import asyncio
    import time

    from app.jobs.service import Jobs
    from app.models.comparison import ShadowService
    from app.models.schemas import ModelComparison
    from app.settings import Settings
    from app.web.service import running_patiently

    async with running_patiently(Settings(), patience) as service:
        await patience.run(partial(service.part(ShadowService).shadow, tenant, name))
        jobs, until = service.part(Jobs), time.monotonic() + LONGEST_SECONDS
        job = await patience.run(partial(jobs.submit, tenant, "comparison", name, days))
        while job.status in ("queued", "running") and time.monotonic() < until:
            await asyncio.sleep(POLL_SECONDS)
            job = await patience.run(partial(jobs.find, tenant, "comparison", name, job.id))
    if job.result is None:
        raise SetupError(
            f"{name} is in shadow, but its comparison is {job.status} ({job.error or job.id}): "
            f"compare it by POST /v1/models/{name}/comparisons"
        )
    return job.id, ModelComparison.model_validate_json(job.result)


def _table(name: str, compared: "ModelComparison") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("", "active", name, box=SIMPLE_HEAD)
    for figure in ("average_precision", "recall", "precision", "held_up"):
        values = (getattr(model, figure) for model in (compared.active, compared.shadow))
        texts = [
            "" if v is None else f"{v:,}" if isinstance(v, int) else f"{v:.4f}" for v in values
        ]
        table.add_row(figure.replace("_", " "), *texts)
    return table


def _verdict(name: str, job: str, compared: "ModelComparison") -> str:
    """What the comparison means, and what a person does next."""
    of = f"{compared.frauds:,} labelled frauds of {compared.transactions:,} payments"
    if compared.better is None:
        return f"{name} is in shadow. {of} are too few to tell: compare it again in some days."
    if not compared.better:
        return f"{name} is in shadow. It ranks {of} lower than the active model: leave it there."
    body = f'{{"comparison": "{job}"}}'
    return (
        f"{name} is in shadow. It ranks {of} no lower than the active model. "
        f"To let it decide: POST /v1/models/{name}/promote with {body}"
    )
