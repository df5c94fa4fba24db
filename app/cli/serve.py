"""`quickstudy serve`"""

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.settings import Settings

FIRST_KEY = "first"


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
) -> None:
    """Serve the API; on the first start, make the database, an API key and a link."""
    # Here, since `quickstudy --help` takes as long as what it imports.
    from app.settings import Settings

    # Through the environment, where the worker processes look too.
    for name, value in (("HOST", host), ("PORT", port), ("WORKERS", workers)):
        if value is not None:
            os.environ[f"QUICKSTUDY_{name}"] = str(value)
    settings = Settings()
    with ExitStack() as stack:
        migrating = None
        if _is_to_be_made(settings.database_url):
            # At once: what it imports and what we import are as much, on two processors.
            migrating = stack.enter_context(_migration())
        from app.db.holding import held
        from app.ops import metrics
        from app.web import server

        stack.enter_context(held(settings.database_url))
        typer.echo(_welcome(settings, *_prepared(settings, migrating)), err=False)
        with tempfile.TemporaryDirectory(prefix="quickstudy-metrics-") as pool:
            if settings.workers > 1:
                os.environ[metrics.POOL_DIRECTORY] = pool
            server.serve(settings)


def _is_to_be_made(url: str) -> bool:
    """Whether this is a SQLite file that is not there yet."""
    scheme, _, path = url.partition(":///")
    return scheme.startswith("sqlite") and bool(path) and not os.path.exists(path)


def _prepared(
    settings: "Settings", migrating: "subprocess.Popen[str] | None"
) -> tuple[str | None, str | None]:
    """Have everything ready to serve; the first key and link, where there were none.

    Where the database is being migrated already, that is waited for. What is refused should be
    refused here, in a sentence, rather than in a worker's trace.
    """
    from app.cli.keys import on_database
    from app.db.database import Database
    from app.errors import Problem, SetupError
    from app.keys import service as keys
    from app.learner.checkpoint import Checkpoint
    from app.learner.devices import choose_device
    from app.models.shelf import Shelf
    from app.people import service as people
    from app.rebuilds.service import check_states

    default = Checkpoint.load(settings.model)
    choose_device(settings.device)
    try:
        if migrating is None:
            on_database(Database.check_revision)
    except (SetupError, Problem):
        migrating = _migration()
    if migrating is not None:
        if settings.workers == 1:
            # It serves itself: what that takes is imported meanwhile.
            import app.main  # noqa: F401
        printed, _ = migrating.communicate()
        if migrating.returncode:
            raise SetupError(printed.strip() or "the database cannot be migrated")

    async def first(database: Database) -> tuple[str | None, str | None]:
        await check_states(database, default.features)
        await Shelf(settings, default).keep_all(database)
        key = await keys.create_first(database, FIRST_KEY)
        return key, await people.first_link(database) if settings.console else None

    return on_database(first)


def _migration() -> "subprocess.Popen[str]":
    """Brings the schema up to date: a process of its own, as what that imports would stay in ours.

    It prints why it cannot.
    """
    command = [sys.executable, "-P", "-m", "app.db.migrating"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def address_of(settings: "Settings") -> str:
    """Where a service with these settings is, as a browser on its machine has it.

    Its pages lead to each other by the prefix, if there is one, which a proxy takes off.
    """
    return f"{_own_address(settings)}{settings.prefix}"


def _own_address(settings: "Settings") -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _welcome(settings: "Settings", key: str | None, link: str | None) -> str:
    from app.times import now_us, text_of

    url, own = address_of(settings), _own_address(settings)
    page = f"{own}/docs" if settings.docs else own
    console = f"The console, for analysts: {url}/console\n" if settings.console else ""
    if link is not None:
        console += (
            "Become its first administrator, within an hour and once: "
            f"{url}/console/setup?token={link}\n"
        )
    if key is None:
        return f"Serving {page} with the API keys of `quickstudy keys list`.\n{console}".rstrip()
    return f"""The first API key, shown only now:

  {key}

Try it:

  curl -s {own}/v1/transactions \\
    -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"transaction_id": "t-1", "account_id": "a-1", "occurred_at": "{text_of(now_us())}",
         "amount": 412.00, "currency": "EUR", "merchant_id": "m-1", "channel": "online"}}'

{f"Documentation: {page}" if settings.docs else ""}
{console}"""
