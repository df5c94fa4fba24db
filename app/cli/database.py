"""`quickstudy db …`"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli.terminal import console
from app.errors import SetupError

commands = typer.Typer(help="The database: its schema, its states, a backup.", no_args_is_help=True)


@commands.command("upgrade")
def upgrade_schema() -> None:
    """Bring the schema up to this version, making the SQLite file where there is none."""
    from app.db.migrating import upgrade
    from app.settings import Settings

    upgrade(Settings().database_url)
    console.print("The database has the schema of this version.")


@commands.command("backup")
def back_up(
    file: Annotated[Path, typer.Argument(help="File to write, which must not exist yet.")],
) -> None:
    """Copy a SQLite database as of one moment; the service may run meanwhile."""
    from app.db import sqlite
    from app.db.database import with_driver
    from app.settings import Settings

    url = with_driver(Settings().database_url)
    if url.get_backend_name() != "sqlite":
        raise SetupError(
            "PostgreSQL is backed up by its own tools: "
            'pg_dump --format=custom --file=FILE "$QUICKSTUDY_DATABASE_URL"'
        )
    sqlite.back_up(Path(str(url.database)), file)
    console.print(f"{escape(str(file))} has all that was committed.")


@commands.command("rebuild")
def rebuild() -> None:
    """Compute all states anew, by replaying the stored payments with the features of the model.

    After an upgrade, or for a model of other features; stop all servers before. Run it again to
    continue.
    """
    from app.cli.keys import on_database
    from app.cli.progress import counting_patiently
    from app.learner.checkpoint import Checkpoint
    from app.rebuilds.service import Rebuilder
    from app.settings import Settings

    checkpoint = Checkpoint.load(Settings().model)
    with counting_patiently("Rebuilding") as bar:

        def show(payments: int, replayed: int) -> None:
            bar.progress.update(bar.task, total=payments, completed=replayed)

        count = on_database(
            lambda database: Rebuilder(database, checkpoint.features, bar.patience).run(show),
            bar.patience,
        )
    model = escape(checkpoint.model)
    if count:
        console.print(f"The states of {count:,} payments are those of model {model}.")
    else:
        console.print(f"Nothing to rebuild: all states are those of model {model}.")
