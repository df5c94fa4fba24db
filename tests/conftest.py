"""Fixtures for every test: a fresh database of either kind, and the data beside the clone."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

# Small matrices run fastest, and to the same bits everywhere, on one thread: in the libraries that
# are imported from here on, and in all processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests.postgres import execute, postgres_server

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from app.db.database import Database
    from app.learner.differentiable.network import Encoder
    from app.learner.features import Features
    from app.settings import Settings

    Array = NDArray[np.bool_]

REPOSITORY = Path(__file__).resolve().parents[1]
HANDBOOK = REPOSITORY.parent / "shared" / "data" / "handbook" / "transactions.parquet"

# The full form: `make torture`.
IS_TORTURE = os.environ.get("QUICKSTUDY_TORTURE") == "1"

# The default form keeps its files in memory where there is room, and waits for no disk; a user's
# own choice goes before.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 << 30
if (
    not IS_TORTURE
    and MEMORY.is_dir()
    and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
):
    tempfile.tempdir = os.environ.setdefault("TMPDIR", str(MEMORY))

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("quickstudy", deadline=None)
settings.load_profile("quickstudy")

_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the full form alone runs."""
    for item in items:
        if not IS_TORTURE and item.get_closest_marker("torture"):
            item.add_marker(pytest.mark.skip(reason="runs in `make torture` only"))


def mainly(database: str, fixture: str = "database_url") -> pytest.MarkDecorator:
    """Run a test on this database, and on the other in `make torture`.

    For tests that start processes, and whose statements others try on both.
    """
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[database]
    databases = [database, pytest.param(other, marks=pytest.mark.torture)]
    return pytest.mark.parametrize(fixture, databases, indirect=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of tests marked `anyio`: the one that the service runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a real PostgreSQL's maintenance database, for the whole session."""
    with postgres_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy: far quicker than migrating for every test."""
    from app.db.migrating import upgrade

    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    upgrade(sqlite_url(path))
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """Name of a migrated, empty PostgreSQL database to use as a template."""
    from app.db.migrating import upgrade

    execute(postgres_url, "CREATE DATABASE migrated")
    url = database_of(postgres_url, "migrated")
    upgrade(url)
    # Each service keeps its checkpoint: to compress random weights, in vain, takes .06 s.
    execute(url, "ALTER TABLE checkpoints ALTER weights SET STORAGE EXTERNAL")
    return "migrated"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, migrated, empty database; the test runs on each kind."""
    with migrated_database(request, tmp_path) as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The same for all tests of a file: each has a tenant of its own there."""
    with migrated_database(request, tmp_path_factory.mktemp("shared")) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator["Database"]:
    """The connections to `database_url`."""
    from app.db.database import Database

    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of the built-in spec `simulated`."""
    from tests.checkpoints import tiny_checkpoint

    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def _fitted() -> dict[bytes, dict[str, "Tensor"]]:
    """Bins by the rows that they are fitted to."""
    return {}


@pytest.fixture(scope="module")
def fitted_once(_fitted: dict[bytes, dict[str, "Tensor"]]) -> Iterator[None]:
    """Trainings on the same rows fit their bins once: of a short one, that is most of the time.

    That bins of the same rows are the same is tested in tests/training/test_bins.py.
    """
    from app.training import bins

    fit = bins.fit

    def remembered(encoder: "Encoder", features_NF: "Features", is_fraud_N: "Array") -> None:
        key = sha256(features_NF.tobytes() + is_fraud_N.tobytes()).digest()
        if key not in _fitted:
            fit(encoder, features_NF, is_fraud_N)
            _fitted[key] = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
        encoder.load_state_dict(_fitted[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bins, "fit", remembered)
        yield


@pytest.fixture
def service_settings(database_url: str, checkpoint: Path) -> "Settings":
    """A service on `database_url` with the tiny checkpoint."""
    from app.settings import Settings

    return Settings(database_url=database_url, model=checkpoint, device="cpu", bank_bytes=1 << 20)


@pytest.fixture(params=["sqlite", "postgresql"])
def unmigrated_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLAlchemy URL of a database without any table, for tests of the migrations themselves."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "unmigrated.db")
    else:
        with postgres_database(request.getfixturevalue("postgres_url"), "template0") as url:
            yield url


@pytest.fixture(scope="session")
def requires_shared_data() -> Path:
    """Path of the Handbook's transactions beside the clone; skips the test without them."""
    if not HANDBOOK.exists():
        pytest.skip(f"the Handbook data is not at {HANDBOOK}")
    return HANDBOOK


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def database_of(server_url: str, name: str) -> str:
    return f"{server_url.rpartition('/')[0]}/{name}"


@contextmanager
def migrated_database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """SQLAlchemy URL of a copy of the migrated database of the kind that a fixture needs."""
    if request.param == "sqlite":
        path = folder / "quickstudy.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield sqlite_url(path)
    else:
        template = request.getfixturevalue("migrated_postgres")
        with postgres_database(request.getfixturevalue("postgres_url"), template) as url:
            yield url


@contextmanager
def postgres_database(server_url: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield database_of(server_url, name)
    finally:
        # FORCE: a service killed by its test may have left sessions open.
        execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")
