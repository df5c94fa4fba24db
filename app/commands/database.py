"""`quickstudy db …`"""

import typer

from app.commands.terminal import console
from app.migrating import upgrade
from app.settings import Settings

commands = typer.Typer(help="The database's schema.", no_args_is_help=True)


@commands.command("upgrade")
def upgrade_schema() -> None:
    """Bring the schema up to this version, making the SQLite file where there is none."""
    upgrade(Settings().database_url)
    console.print("The database has the schema of this version.")
