"""`quickstudy keys …`"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from app import keys
from app.commands.terminal import console
from app.database import Database
from app.settings import Settings
from app.times import text_of

commands = typer.Typer(help="API keys.", no_args_is_help=True)

Result = TypeVar("Result")


@commands.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Annotated[str, typer.Option(help="Whose data the key opens.")] = keys.DEFAULT_TENANT,
) -> None:
    """Make a key and print it, alone: it cannot be shown again."""
    typer.echo(on_database(lambda database: keys.create(database, name, tenant)))


@commands.command("list")
def list_keys() -> None:
    """Show every key: its id, name and tenant, never its secret."""
    table = Table("id", "name", "tenant", "created", "revoked")
    for key in on_database(keys.listed):
        revoked = "" if key.revoked_at_us is None else text_of(key.revoked_at_us)
        table.add_row(key.id, key.name, key.tenant, text_of(key.created_at_us), revoked)
    console.print(table)


@commands.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
) -> None:
    """End a key; servers refuse it within a second."""
    on_database(lambda database: keys.revoke(database, key_id))
    console.print(f"Key {key_id} is revoked.")


def on_database(work: Callable[[Database], Awaitable[Result]]) -> Result:
    """Run `work` on the settings' database, which must have this version's schema."""

    async def run() -> Result:
        database = Database(Settings().database_url)
        try:
            await database.check_revision()
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())
