"""`quickstudy import` and `quickstudy export`"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from app.cli.labels import labels_line
from app.cli.reading import say_of_file
from app.cli.terminal import console, say_why
from app.errors import SetupError
from app.keys.scopes import DEFAULT_TENANT

# All else is imported inside the functions: `quickstudy --help` takes as long as what it imports.
if TYPE_CHECKING:
    from app.history.importing import Tally
    from app.history.reading import History
    from app.learner.checkpoint import Checkpoint
    from app.learner.spec import DatasetSpec

CONFLICTS_SHOWN = 5


def import_history(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, Parquet or JSON: a file, folder, or pattern in quotes."),
    ],
    spec: Annotated[str, typer.Option(help="TOML file, or the name of a built-in spec.")],
    tenant: Annotated[str, typer.Option(help="Whose data it is.")] = DEFAULT_TENANT,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Import even where the file lacks fields that the model uses."
        ),
    ] = False,
) -> None:
    """Import a history into the database; run it again to continue, or with a newer file.

    Labels count from when they are known; those of payments that are there already are stored as
    by PUT. Payments that differ from those stored are left as they are, and named.
    """
    import asyncio

    from app.history.reading import History
    from app.learner.checkpoint import Checkpoint
    from app.learner.spec import DatasetSpec
    from app.settings import Settings

    chosen, settings = DatasetSpec.load(spec), Settings()
    _check_model(chosen, Checkpoint.load(settings.model), partial)
    history = History(file, chosen)
    say_of_file(chosen, history.newest_us, history.left_out)
    tally = asyncio.run(_import(history, tenant))
    there = len(history) - len(tally.differing)
    console.print(
        f"{there:,} transactions of {escape(str(file))} are in the database, {tally.new:,} of them "
        "new.",
        soft_wrap=True,
    )
    console.print(labels_line(tally.labels), soft_wrap=True)
    if tally.kept:
        # What the file has no label for may be what others have labelled meanwhile.
        console.print(
            f"{tally.kept:,} of its transactions have no label in the file and keep the one that "
            "they have.",
            soft_wrap=True,
        )
    if tally.differing:
        raise SetupError(_conflict(file, tally.differing))


def export_history(
    file: Annotated[Path, typer.Argument(help="Parquet file to write; its spec goes beside it.")],
    tenant: Annotated[str, typer.Option(help="Whose data it is.")] = DEFAULT_TENANT,
) -> None:
    """Write transactions and labels as a file and a spec that `train` takes."""
    if file.suffix != ".parquet":
        raise SetupError(f"{file}: an export is a .parquet file")
    from app.cli.keys import on_database
    from app.db.patience import Patience
    from app.history.exporting import export, export_spec
    from app.learner.checkpoint import Checkpoint
    from app.settings import Settings

    spec = export_spec(Checkpoint.load(Settings().model).metadata.spec, file.stem)
    patience = Patience(say_why)
    count = on_database(lambda database: export(database, tenant, spec, file, patience), patience)
    written, spec_file = escape(str(file)), escape(f"{file.stem}.toml")
    console.print(f"{count:,} transactions are in {written}, their spec in {spec_file}.")


def _conflict(file: Path, differing: dict[str, list[str]]) -> str:
    names = [f"{key!r} ({', '.join(fields)})" for key, fields in differing.items()]
    shown = ", ".join(names[:CONFLICTS_SHOWN])
    more = f" and {len(names) - CONFLICTS_SHOWN:,} more" if len(names) > CONFLICTS_SHOWN else ""
    return (
        f"{file}: {len(names):,} of its transactions differ from those in the database, which stay "
        f"as they are, without the file's labels: {shown}{more}; correct the file and import it "
        "again"
    )


def _check_model(spec: "DatasetSpec", checkpoint: "Checkpoint", partial: bool) -> None:
    """A history is remembered in the features of the model that will be served.

    In a partial one fields are missing, as where a caller leaves them out.
    """
    from app.learner.features import check_same_features

    metadata = checkpoint.metadata
    if partial:
        if metadata.rates is not None and not spec.has_currencies:
            raise SetupError(
                f"model {metadata.name} compares amounts in {metadata.rates.reference}, and spec "
                f"{spec.name} names no currency: set currency under [columns], or under [amount] "
                "for all"
            )
        return
    try:
        check_same_features(spec, checkpoint.features, metadata.name)
    except ValueError as error:
        raise SetupError(
            f"{error}; QUICKSTUDY_MODEL names the model to import for, and --partial imports what "
            "fields there are"
        ) from None


async def _import(history: "History", tenant: str) -> "Tally":
    from app.cli.progress import counting_patiently
    from app.db.database import Database
    from app.db.migrating import upgrade_patiently
    from app.history.importing import Importer, Tally
    from app.scoring.pipeline import Pipeline
    from app.settings import Settings
    from app.web.service import running_patiently

    tally, settings = Tally(), Settings()
    with counting_patiently("Importing", len(history)) as bar:
        await upgrade_patiently(settings.database_url, bar.patience)
        async with running_patiently(settings, bar.patience) as service:
            importer = Importer(service.part(Database), service.part(Pipeline), bar.patience)
            done = 0
            async for added in importer.run(tenant, history.chunks(importer.chunk)):
                tally += added
                done = min(done + importer.chunk, len(history))
                bar.progress.update(bar.task, completed=done)
    return tally
