"""`quickstudy keys …`"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from app.cli.terminal import console
from app.db.database import Database
from app.keys import service as keys
from app.keys.scopes import GRACE_HOURS, SCOPES
from app.settings import Settings
from app.times import text_of

commands = typer.Typer(help="API keys.", no_args_is_help=True)

Result = TypeVar("Result")


@commands.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Annotated[str, typer.Option(help="Whose data the key opens.")] = keys.DEFAULT_TENANT,
    scopes: Annotated[
        str, typer.Option(help=f"What it may do: some of {','.join(SCOPES)}.")
    ] = "score,label,read",
) -> None:
    """Make a key and print it, alone: it cannot be shown again."""
    chosen = [scope.strip() for scope in scopes.split(",")]
    typer.echo(on_database(lambda database: keys.create(database, name, tenant, chosen)))


@commands.command("list")
def list_keys() -> None:
    """Show every key: its id, name and tenant, never its secret."""
    table = Table("id", "name", "tenant", "scopes", "created", "last used", "ends")
    for key in on_database(keys.listed):
        ends = min((at for at in (key.revoked_at_us, key.expires_at_us) if at), default=None)
        times = (key.created_at_us, key.last_used_at_us, ends)
        table.add_row(
            key.id,
            key.name,
            key.tenant,
            key.scopes.replace(" ", ","),
            *("" if at is None else text_of(at)[:19] for at in times),
        )
    console.print(table)


@commands.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    hours: Annotated[
        float, typer.Option(min=0, max=8760, help="How long the old one is good.")
    ] = GRACE_HOURS,
) -> None:
    """Replace a key: print its successor, alone, and end the old one a while later."""
    typer.echo(on_database(lambda database: keys.rotate(database, key_id, hours)))


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
            await database.check_schema()
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())
