"""`quickstudy serve`"""

import os
import sys
import tempfile
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
    from app.db.holding import held
    from app.ops import metrics
    from app.settings import Settings
    from app.web import server

    # Through the environment, where the worker processes look too.
    for name, value in (("HOST", host), ("PORT", port), ("WORKERS", workers)):
        if value is not None:
            os.environ[f"QUICKSTUDY_{name}"] = str(value)
    settings = Settings()
    with held(settings.database_url):
        typer.echo(_welcome(settings, *_prepared(settings)), err=False)
        with tempfile.TemporaryDirectory(prefix="quickstudy-metrics-") as pool:
            if settings.workers > 1:
                os.environ[metrics.POOL_DIRECTORY] = pool
            server.serve(settings)


def _prepared(settings: "Settings") -> tuple[str | None, str | None]:
    """Have everything ready to serve; the first key and link, where there were none.

    What is refused should be refused here, in a sentence, rather than in a worker's trace.
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
        on_database(Database.check_revision)
    except (SetupError, Problem):
        _migrate()

    async def first(database: Database) -> tuple[str | None, str | None]:
        await check_states(database, default.features)
        await Shelf(settings, default).keep_all(database)
        key = await keys.create_first(database, FIRST_KEY)
        return key, await people.first_link(database) if settings.console else None

    return on_database(first)


def _migrate() -> None:
    """Bring the schema up to date, in a process of its own: what that imports would stay in ours.

    Raises SetupError.
    """
    import subprocess

    from app.errors import SetupError

    command = [sys.executable, "-P", "-m", "app.db.migrating"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SetupError(done.stdout.strip() or "the database cannot be migrated")


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
