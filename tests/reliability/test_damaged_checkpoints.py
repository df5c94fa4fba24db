"""A damaged checkpoint is never served, and what was served goes on; nothing is unpickled."""

import ast
import json
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.learner.checkpoint import METADATA, WEIGHTS, Checkpoint
from app.models.service import RETRY_SECONDS
from app.settings import SHIPPED_MODEL
from tests.api.requests import posted, problem_of
from tests.checkpoints import tiny_checkpoint
from tests.conftest import REPOSITORY, sqlite_url
from tests.reliability.conftest import Note
from tests.servers import Server, new_key, server_process

FULL, SHORT = 1000, 25


# Python looks for it at every start. Unpickling raises an audit event for every class that it
# looks up; plain values have none, hence the functions too.
WATCH = """
import pickle, sys
def tell(what):
    with open({log!r}, "a") as log:
        print(what, file=log)
def watched(name, function):
    def call(*args, **options):
        tell(name)
        return function(*args, **options)
    return call
sys.addaudithook(lambda event, args: event == "pickle.find_class" and tell(f"{{event}} {{args}}"))
pickle.load, pickle.loads = watched("load", pickle.load), watched("loads", pickle.loads)
tell("watching")
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    tiny_checkpoint(folder / "first")
    tiny_checkpoint(folder / "second", seed=1)
    shutil.copytree(folder / "second", folder / "target")
    return folder


@pytest.fixture(scope="module")
def database_url(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SQLite alone: checkpoints are files beside either database."""
    path = tmp_path_factory.mktemp("database") / "quickstudy.db"
    return sqlite_url(Path(shutil.copy(migrated_sqlite, path)))


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Where a process logs what it unpickles, and the variables that make it do so."""
    folder = tmp_path_factory.mktemp("watch")
    log = folder / "unpickled"
    (folder / "sitecustomize.py").write_text(WATCH.format(log=str(log)))
    return log, {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def running(database_url: str, shelf: Path, watch: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    """A server that every test of this file may use, and is watched all the time."""
    with server_process(database_url, shelf / "first", **watch[1]) as server:
        yield server


@pytest.fixture
def client(running: Server, database_url: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {new_key(database_url)}"}
    with httpx.Client(base_url=running.url, headers=headers) as client:
        yield client


def model_of(client: httpx.Client, transaction_id: str) -> str:
    """The model that scores a payment now."""
    answer = client.post("/v1/transactions", json=posted(transaction_id))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model"])


def flipped(whole: bytes, places: list[int], times: int, chance: random.Random) -> Iterator[bytes]:
    """One byte turned into another: at these places first, then anywhere."""
    places = places[: times // 2]
    places += [chance.randrange(len(whole)) for _ in range(times - len(places))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= chance.randrange(1, 256)
        yield bytes(damaged)


def shortened(whole: bytes, times: int, chance: random.Random) -> Iterator[bytes]:
    """The beginnings of a file: none of it, a byte less than all, and anything between."""
    lengths = [0, 1, 8, len(whole) - 1, len(whole) - 2]
    lengths += [chance.randrange(len(whole)) for _ in range(times - len(lengths))]
    for length in lengths:
        yield whole[:length]


def respelled(whole: bytes) -> Iterator[bytes]:
    """JSON in other bytes: what a reader of JSON would take for the same."""
    described = json.loads(whole)
    yield json.dumps(described).encode()
    yield json.dumps(described, indent=4).encode() + b"\n"
    yield whole.replace(b"\n", b"\r\n")
    yield whole.replace(b'"name"', b'"n\\u0061me"', 1)
    yield whole.replace(b'  "seed"', b'  "seed": 7,\n  "seed"', 1)
    for more in (b" ", b"\n", b"\0", b"{}", whole):
        yield whole + more
        yield more + whole


def places_in(whole: bytes) -> list[int]:
    """Places in JSON of each kind: white space, digits, quotes, letters, brackets."""
    kinds = (b" ", b"\n", b"0", b"9", b'"', b"e", b":", b",", b"{", b"}", b"]", b".")
    found = [whole.find(kind) for kind in kinds] + [whole.rfind(kind) for kind in kinds]
    digest, weights = whole.rfind(b'"digest": "'), whole.rfind(b'"weights_sha256": "')
    return [place for place in [*found, digest + 12, weights + 20] if place >= 0]


def test_a_damaged_checkpoint_is_refused_and_the_last_good_one_goes_on(
    client: httpx.Client, shelf: Path, torture: bool, noted: Note
) -> None:
    target, times, chance = shelf / "target", FULL if torture else SHORT, random.Random(8)
    metadata, weights = (target / METADATA).read_bytes(), (target / WEIGHTS).read_bytes()
    header = int.from_bytes(weights[:8], "little")
    # The length of the header, its ends, its padding, and the ends of the numbers.
    edges = [*range(9), header // 2, header + 6, header + 7, header + 8, len(weights) - 1]
    damages = {
        METADATA: [
            *flipped(metadata, places_in(metadata), times, chance),
            *shortened(metadata, times, chance),
            *respelled(metadata),
        ],
        WEIGHTS: [
            *flipped(weights, edges, times, chance),
            *shortened(weights, times, chance),
            *(weights + more for more in (b"\0", b" ", weights)),
        ],
    }
    assert client.post("/v1/models/second/activate").status_code == 200
    serving, refusals, scores = model_of(client, "d-0"), 0, 0
    for name, whole in ((METADATA, metadata), (WEIGHTS, weights)):
        for damaged in damages[name]:
            assert damaged != whole
            (target / name).write_bytes(damaged)
            refused = client.post("/v1/models/target/activate")
            assert problem_of(refused) == (409, "model_refused"), damaged[:100]
            refusals += 1
            if refusals % 25 == 0:
                scores += 1
                assert model_of(client, f"d-{scores}") == serving
        (target / name).write_bytes(whole)
    # It was the damage that was refused.
    assert client.post("/v1/models/target/activate").status_code == 200
    kinds = (
        f"{times} flips, {times} truncations of each file and {refusals - 4 * times} respellings"
    )
    noted(
        "a damaged checkpoint is refused, the last good one goes on",
        "any",
        f"{kinds}: {refusals} of {refusals} activations refused (409), {scores} of {scores} scores "
        "between them by the model active before",
    )


def test_a_checkpoint_damaged_under_a_process_is_missed_at_the_next_start_alone(
    running: Server, client: httpx.Client, database_url: str, shelf: Path
) -> None:
    for name in ("first", "second"):
        client.post(f"/v1/models/{name}/activate")
    serving = model_of(client, "t-1")
    whole = (shelf / "second" / WEIGHTS).read_bytes()
    (shelf / "second" / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert model_of(client, "t-2") == serving
    reasons_of = {item["name"]: item["refused"] for item in client.get("/v1/models").json()["data"]}
    assert "altered or damaged" in reasons_of["second"]
    stranger = {"Authorization": f"Bearer {new_key(database_url, tenant='other')}"}

    running.kill()
    running.start()
    # Rather no score than one by a model that nobody chose.
    refused = client.post("/v1/transactions", json=posted("t-3"))
    assert problem_of(refused) == (503, "model_unavailable")
    assert refused.headers["retry-after"] == "1"
    other = client.post("/v1/transactions", json=posted("t-3"), headers=stranger)
    assert other.status_code == 200
    assert client.get("/readyz").status_code == 200
    # Put back, it serves when it is tried again; and without it, whichever was before.
    (shelf / "second" / WEIGHTS).write_bytes(whole)
    until = time.monotonic() + 2 * RETRY_SECONDS
    while client.post("/v1/transactions", json=posted("t-3")).status_code == 503:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert model_of(client, "t-3") == serving
    (shelf / "second" / WEIGHTS).unlink()
    client.post("/v1/models/rollback")
    assert model_of(client, "t-4") == other.json()["model"]
    (shelf / "second" / WEIGHTS).write_bytes(whole)


def test_a_damaged_default_keeps_a_service_from_starting_with_a_sentence(
    checkpoint: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    (damaged / WEIGHTS).write_bytes((damaged / WEIGHTS).read_bytes()[:-1])
    environment = {"QUICKSTUDY_DATABASE_URL": "sqlite:///x.db", "QUICKSTUDY_MODEL": str(damaged)}
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli.main import app; app()", "serve", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode != 0
    assert f"{WEIGHTS} was altered or damaged" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_shipped_checkpoint_is_as_it_was_written() -> None:
    shipped = Checkpoint.load(SHIPPED_MODEL)
    assert shipped.digest.startswith("509c8ae68dda")


# Formats that run what they hold, and what turns text into code.
UNSAFE_MODULES = {
    *("pickle", "_pickle", "cPickle", "pickletools", "marshal", "shelve", "dbm", "copyreg"),
    *("joblib", "dill", "cloudpickle", "jsonpickle", "skops", "yaml"),
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_MEMBERS = {
    *(("torch", name) for name in ("load", "save", "jit", "package", "hub")),
    *((module, name) for module in ("np", "numpy") for name in ("load", "save", "savez")),
    *((module, "read_pickle") for module in ("pd", "pandas")),
    ("importlib", "import_module"),
}


def unsafe(source: str) -> list[str]:
    """What a module uses that can run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [
                alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES
            ]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.split(".")[0] in UNSAFE_MODULES:
                found.append(module)
            found += [
                f"{module}.{alias.name}"
                for alias in node.names
                if (module, alias.name) in UNSAFE_MEMBERS
            ]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in UNSAFE_MEMBERS:
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
                found.append(node.func.id)
            found += [keyword.arg for keyword in node.keywords if keyword.arg == "allow_pickle"]
    return found


def test_no_module_reads_what_could_run() -> None:
    modules = [*(REPOSITORY / "app").rglob("*.py"), *(REPOSITORY / "migrations").rglob("*.py")]
    assert len(modules) > 100
    found = {str(path.relative_to(REPOSITORY)): unsafe(path.read_text()) for path in modules}
    assert {path: uses for path, uses in found.items() if uses} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib.externals",
        "from cloudpickle import loads",
        "def late():\n    import shelve",
        "from torch import load",
        "torch.load(path)",
        "np.load(path)",
        "read(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_that_test_can_fail(source: str) -> None:
    assert unsafe(source)


def test_a_service_never_unpickles(
    client: httpx.Client, shelf: Path, watch: tuple[Path, dict[str, str]]
) -> None:
    client.post("/v1/models/first/activate")
    before = model_of(client, "p-1")
    client.put("/v1/transactions/p-1/label", json={"label": "fraud"})
    assert client.get("/v1/accounts/alice/influence").status_code == 200
    client.post("/v1/models/target/activate")
    assert model_of(client, "p-2") != before
    assert client.post("/v1/transactions/p-1/replay").json()["match"]
    # A pickle in place of the weights, as an attacker would bring it.
    (shelf / "target" / WEIGHTS).write_bytes(pickle.dumps(Path("x")))
    assert client.post("/v1/models/target/activate").status_code == 409
    log, variables = watch
    assert set(log.read_text().splitlines()) == {"watching"}
    # The watch does see it.
    for call in ("pickle.loads(made)", "pickle.Unpickler(io.BytesIO(made)).load()"):
        source = f"import io, pickle, pathlib; made = pickle.dumps(pathlib.Path()); {call}"
        log.unlink()
        subprocess.run([sys.executable, "-c", source], env=variables, check=True)
        assert len(log.read_text().splitlines()) > 1
