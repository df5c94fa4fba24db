"""`quickstudy keys …`"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from app.cli.terminal import console, second_of, show_rows
from app.keys.scopes import DEFAULT_TENANT, GRACE_HOURS, SCOPES

if TYPE_CHECKING:
    from app.db.database import Database
    from app.db.patience import Patience

commands = typer.Typer(help="API keys.", no_args_is_help=True)

Result = TypeVar("Result")


@commands.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Annotated[str, typer.Option(help="Whose data the key opens.")] = DEFAULT_TENANT,
    scopes: Annotated[
        str, typer.Option(help=f"What it may do: some of {','.join(SCOPES)}.")
    ] = "score,label,decide,read",
) -> None:
    """Make a key and print it, alone: it cannot be shown again."""
    from app.keys import service as keys

    chosen = [scope.strip() for scope in scopes.split(",")]
    typer.echo(on_database(lambda database: keys.create(database, name, tenant, chosen)))


@commands.command("list")
def list_keys() -> None:
    """Show every key: its id, name and tenant, never its secret."""
    from app.keys import service as keys

    def row(key: keys.ApiKey) -> tuple[str, ...]:
        ends = min((at for at in (key.revoked_at_us, key.expires_at_us) if at), default=None)
        times = (key.created_at_us, key.last_used_at_us, ends)
        shown = (second_of(at) for at in times)
        return key.id, key.name, key.tenant, key.scopes, *shown

    names = ("id", "name", "tenant", "scopes", "created", "last used", "ends")
    none = "There is no key: `quickstudy keys create NAME` makes one."
    show_rows(names, map(row, on_database(keys.listed)), none)


@commands.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    hours: Annotated[
        float, typer.Option(min=0, max=8760, help="For how many hours the old key stays valid.")
    ] = GRACE_HOURS,
) -> None:
    """Replace a key: print its successor, alone, and end the old one a while later."""
    from app.keys import service as keys

    typer.echo(on_database(lambda database: keys.rotate(database, key_id, hours)))


@commands.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
) -> None:
    """End a key; servers refuse it within a second."""
    from app.keys import service as keys

    on_database(lambda database: keys.revoke(database, key_id))
    console.print(f"Key {key_id} is revoked.")


def on_database(
    action: "Callable[[Database], Awaitable[Result]]", patience: "Patience | None" = None
) -> Result:
    """Run `action` on the settings' database, which must have this version's schema.

    With `patience`, a database that is away is waited for.
    """
    import asyncio

    from app.db.database import Database
    from app.settings import Settings

    async def run() -> Result:
        database = Database(Settings().database_url)
        try:
            if patience is None:
                await database.check_schema()
            else:
                await patience.run(database.check_schema)
            return await action(database)
        finally:
            await database.close()

    return asyncio.run(run())
