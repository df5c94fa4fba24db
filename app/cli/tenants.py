"""`quickstudy tenant …`"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from app.cli.terminal import console, say_why
from app.errors import SetupError
from app.keys.scopes import DEFAULT_TENANT

if TYPE_CHECKING:
    from app.db.database import Database
    from app.db.patience import Patience
    from app.tenants.moving import Progress

commands = typer.Typer(
    help="Tenants: all that is known of one, to another database.", no_args_is_help=True
)

Tenant = Annotated[str, typer.Argument(help="Its name.")]
Copy = Callable[["Database", "Database", str, "Progress", "Patience"], Awaitable[dict[str, int]]]


@commands.command("export")
def export(
    tenant: Tenant,
    file: Annotated[Path, typer.Argument(help="SQLite file to write, which must not exist yet.")],
) -> None:
    """Write all that is known of a tenant into a file, as of one moment.

    Payments, labels, accounts, keys, people, webhooks, the audit log: what the service needs to go
    on elsewhere as if it had been there from the start. The file is as secret as the database.
    """
    from app.db.sqlite import new_file
    from app.tenants.moving import export_tenant

    with new_file(file) as part:
        url = f"sqlite:///{part.absolute()}"
        counts = _copied(export_tenant, None, url, tenant)
    console.print(f"{escape(str(file))} has tenant {escape(tenant)}: {_words(counts)}.")


@commands.command("import")
def import_(
    tenant: Tenant,
    file: Annotated[Path, typer.Argument(help="As `quickstudy tenant export` wrote it.")],
) -> None:
    """Import a tenant from such a file into the database, all of it or nothing.

    Its keys are valid from then on, and its scores and replays are the same to the bit where the
    same models are served.
    """
    from app.db.holding import held
    from app.settings import Settings
    from app.tenants.moving import import_tenant

    if not file.is_file():
        raise SetupError(f"{file}: there is no such file")
    url = Settings().database_url
    with held(url):
        counts = _copied(import_tenant, f"sqlite:///{file.absolute()}", None, tenant)
    console.print(f"Tenant {escape(tenant)} is in the database: {_words(counts)}.")


@commands.command("remove")
def remove(
    tenant: Tenant,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Delete all that is known of a tenant, its keys first, as after a move."""
    from app.cli.keys import on_database
    from app.db.patience import Patience
    from app.tenants.moving import remove_tenant

    if not yes:
        typer.confirm(f"Delete all payments, labels and keys of tenant {tenant}?", abort=True)
    with _shown("Deleting") as show:
        patience = Patience(say_why)
        counts = on_database(
            lambda database: remove_tenant(database, tenant, show, patience), patience
        )
    console.print(f"Tenant {escape(tenant)} is gone: {_words(counts)}.")


def prune(
    keep_days: Annotated[
        int, typer.Option(help="Payments that occurred so many days ago, or later, stay.")
    ],
    tenant: Annotated[str, typer.Option(help="Whose payments.")] = DEFAULT_TENANT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing, only say how many would go.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Delete payments that are older than they are to be kept.

    Those that ever had a label, or wait for a review, stay: accounts learn from them. Scores go on
    as if nothing had gone, and accounts can be erased as before. What is gone cannot be replayed,
    and reasons compare with what is left.
    """
    from app.cli.keys import on_database
    from app.cli.progress import counting
    from app.db.patience import Patience
    from app.learner.checkpoint import Checkpoint
    from app.settings import Settings
    from app.tenants.moving import check_present
    from app.tenants.pruning import prune as pruned

    features = Checkpoint.load(Settings().model).features

    def done(is_preview: bool) -> int:
        with counting() as progress:
            task = progress.add_task("Counting" if is_preview else "Pruning", total=None)

            def show(payments: int) -> None:
                progress.update(task, completed=payments)

            patience = Patience(say_why)

            async def run(database: "Database") -> int:
                await patience.run(partial(check_present, database, tenant))
                return await pruned(
                    database, features, tenant, keep_days, show, patience, is_preview
                )

            return on_database(run, patience)

    if dry_run:
        console.print(f"{done(True):,} payments of tenant {escape(tenant)} would go.")
        return
    if not yes and (count := done(True)):
        what = f"{count:,} payments of tenant {tenant} that are over {keep_days} days old"
        typer.confirm(f"Delete {what}?", abort=True)
    console.print(f"{done(False):,} payments of tenant {escape(tenant)} are gone.")


def _copied(copy: Copy, source: str | None, target: str | None, tenant: str) -> dict[str, int]:
    """Copy from one database to another; without a URL it is the settings'."""
    import asyncio

    from app.db.database import Database
    from app.db.migrating import upgrade_patiently
    from app.db.patience import Patience
    from app.settings import Settings

    async def run(show: "Progress") -> dict[str, int]:
        own = Settings().database_url
        await upgrade_patiently(target or own, Patience(say_why))
        reading, writing = Database(source or own), Database(target or own)
        try:
            for database in (reading, writing):
                # One that answers says nothing of the other.
                await Patience(say_why).run(database.check_schema)
            return await copy(reading, writing, tenant, show, Patience(say_why))
        finally:
            await reading.close()
            await writing.close()

    with _shown("Copying") as show:
        return asyncio.run(run(show))


@contextmanager
def _shown(doing: str) -> Iterator["Progress"]:
    """A line that tells how many rows of which table are done."""
    from app.cli.progress import counting

    with counting() as progress:
        task = progress.add_task(doing, total=None)

        def show(table: str, rows: int) -> None:
            progress.update(task, description=f"{doing} {table}", completed=rows)

        yield show


def _words(counts: dict[str, int]) -> str:
    """What people ask about: how many payments, labels and accounts."""
    names = {"transactions": "payments", "labels": "labels", "accounts": "accounts"}
    return ", ".join(f"{counts[table]:,} {word}" for table, word in names.items())
