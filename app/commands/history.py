"""`quickstudy import` and `quickstudy export`"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.checkpoint import Checkpoint
from app.commands.keys import on_database
from app.commands.terminal import console
from app.errors import SetupError
from app.features import FeatureSet
from app.importing import CHUNK, import_chunk
from app.keys import DEFAULT_TENANT
from app.migrating import upgrade
from app.service import running
from app.settings import Settings
from app.transactions import DatasetSpec

if TYPE_CHECKING:
    from app.training.history import History


def import_history(
    file: Annotated[Path, typer.Argument(help="Transactions, CSV or Parquet.")],
    spec: Annotated[str, typer.Option(help="TOML file, or the name of a built-in spec.")],
    tenant: Annotated[str, typer.Option(help="Whose data it is.")] = DEFAULT_TENANT,
) -> None:
    """Bring a history into the database; run it again to continue where it was interrupted."""
    # Reading files takes libraries that serving does without.
    from app.training.history import History

    chosen, settings = DatasetSpec.load(spec), Settings()
    _check_model(chosen, Checkpoint.load(settings.model))
    history = History(file, chosen)
    upgrade(settings.database_url)
    asyncio.run(_import(history, tenant))
    console.print(f"{len(history):,} transactions of {file} are in the database.")


def export_history(
    file: Annotated[Path, typer.Argument(help="Parquet file to write; its spec goes beside it.")],
    tenant: Annotated[str, typer.Option(help="Whose data it is.")] = DEFAULT_TENANT,
) -> None:
    """Write transactions and labels as a file and a spec that `train` takes."""
    if file.suffix != ".parquet":
        raise SetupError(f"{file}: an export is a .parquet file")
    # Here, because polars alone would be a tenth of the start-up of `quickstudy serve`.
    from app.exporting import export, export_spec

    spec = export_spec(Checkpoint.load(Settings().model).metadata.spec, file.stem)
    count = on_database(lambda database: export(database, tenant, spec, file))
    console.print(f"{count:,} transactions are in {file}, their spec in {file.stem}.toml.")


def _check_model(spec: DatasetSpec, checkpoint: Checkpoint) -> None:
    """A history is remembered in the features of the model that will be served."""
    trained = checkpoint.metadata.spec
    if FeatureSet(spec).digest != checkpoint.features.digest or spec.label != trained.label:
        raise SetupError(
            f"spec {spec.name} gives other features or label delays than the model "
            f"{checkpoint.metadata.name}, which was trained on spec {trained.name}: "
            "QUICKSTUDY_MODEL names the model to import for"
        )


async def _import(history: "History", tenant: str) -> None:
    columns = (
        TextColumn("Importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    async with running(Settings()) as service:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("import", total=len(history))
            for chunk in history.chunks(CHUNK):
                await import_chunk(service.database, service.pipeline, tenant, chunk)
                progress.advance(task, len(chunk))
