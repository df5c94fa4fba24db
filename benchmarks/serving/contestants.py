"""What is measured in a round: the rivals, the service on each database, and its workers.

By the figure's name, what to do in every round. Services start with their first request and run
until the end; a rival runs for its own turn only, since some are busy without requests.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.rivals.environment import RIVALS, STORED, Rival, programs, settings
from benchmarks.serving.driving import CONNECTIONS, Requests, Seen, Server, load, sync_milliseconds
from benchmarks.serving.material import AT_ONCE, BATCHES, SCORE, SINGLES, Material, Prepared
from benchmarks.serving.processes import HOST, answers, process
from benchmarks.serving.processors import SERVER_CORE
from quickstudy_client import Client
from tests.postgres import PostgresServer, free_port

LABELS_PER_SECOND = 50.0
ALL_CORES = None
QUICKSTUDY = str(Path(sys.executable).with_name("quickstudy"))

Measures = dict[str, Callable[[], Seen]]


class Course(NamedTuple):
    """A service, and the requests that are left for it."""

    server: Server
    scored: Requests
    labelled: Requests


def rivals(material: Material) -> Measures:
    return {name: partial(rival, material, name) for name in RIVALS}


def rival(material: Material, name: str) -> Seen:
    requests = material.for_rivals[name]
    with (
        # Not in the material's folder: Ray puts sockets in it, whose paths must be short.
        TemporaryDirectory(ignore_cleanup_errors=True) as home,
        rival_server(
            RIVALS[name], material.folder / f"{name}.log", requests, settings(home)
        ) as server,
    ):
        return load(server, Requests(requests, SINGLES, repeats=True), material.seconds)


@contextmanager
def rival_server(
    rival: Rival, log: Path, requests: Path, environment: Mapping[str, str], key: str = ""
) -> Iterator[Server]:
    """A rival's server, which answers the first of the requests."""
    port = free_port()
    with requests.open() as lines:
        _, body, headers = json.loads(next(lines))
    if key:
        headers["Authorization"] = f"Bearer {key}"
    ready = partial(answers, port, SCORE, body, headers)
    with process(rival.command(programs(), port), log, environment, ready) as pid:
        yield Server(port, {"server": pid}, key)


def one_core(
    material: Material,
    stack: ExitStack,
    prefix: str,
    database: Callable[[str], str],
    others: Mapping[str, int],
) -> Measures:
    """Single payments, also with labels beside and one after another; batches, on another database.

    The `others` are processes that the service needs, on the same core.
    """

    def course(name: str, prepared: Prepared, most: int) -> Course:
        log, url = material.folder / f"{prefix}{name}.log", database(name)
        server = stack.enter_context(quickstudy(log, url, others))
        prepare(server, prepared)
        labelled = Requests(prepared.labelling, LABELS_PER_SECOND)
        return Course(server, Requests(prepared.requests, most), labelled)

    @cache
    def singles() -> Course:
        return course("singles", material.singles, SINGLES)

    @cache
    def batches() -> Course:
        return course("batches", material.batches, BATCHES)

    def single() -> Seen:
        server, scored, _ = singles()
        return durably(material, server, scored)

    def labels() -> Seen:
        server, scored, labelled = singles()
        return durably(material, server, scored, paced=labelled)

    def alone() -> Seen:
        server, scored, _ = singles()
        return durably(material, server, scored, connections=1)

    def batch() -> Seen:
        server, scored, _ = batches()
        return durably(material, server, scored, units=AT_ONCE, connections=1)

    def stored() -> Seen:
        return stored_rival(material, database(f"stored_{next(numbers)}"), prefix, others)

    numbers = count()
    kinds = {"stored": stored, "single": single, "labels": labels, "alone": alone, "batch": batch}
    return {f"{prefix}{name}": measure for name, measure in kinds.items()}


def stored_rival(material: Material, url: str, prefix: str, others: Mapping[str, int]) -> Seen:
    """What a user would write instead, on a new database: each payment is new to it as well."""
    log, requests = material.folder / f"{prefix}stored.log", material.singles.requests
    with rival_server(STORED, log, requests, {"STORED_URL": url}, "rival") as server:
        beside = Server(server.port, {**server.processes, **others}, server.key)
        return durably(material, beside, Requests(requests, SINGLES))


def workers(material: Material, stack: ExitStack, database: PostgresServer) -> Measures:
    """One worker, two on the same database, and two services with one each; all on all cores.

    The last two have nothing in common but the database server: more than they do together, the
    cores do not allow two workers.
    """
    others = {"postgres": database.pid}
    urls = {name: database.create(name) for name in ("shared", "apart")}

    def started(name: str, url: str, workers: int = 1, key: str = "") -> Server:
        log = material.folder / f"{name}.log"
        return stack.enter_context(quickstudy(log, url, others, workers, ALL_CORES, key))

    apart = []
    for name, url in urls.items():
        server = started(f"{name}-one", url)
        prepare(server, material.singles)
        apart.append((server, Requests(material.singles.requests, SINGLES)))
    single, scored = apart[0]
    two = started("shared-two", urls["shared"], 2, single.key)
    return {
        "workers.one": partial(durably, material, single, scored, core=ALL_CORES),
        "workers.two": partial(durably, material, two, scored, core=ALL_CORES),
        "workers.apart": partial(side_by_side, material, apart),
    }


def side_by_side(material: Material, services: Sequence[tuple[Server, Requests]]) -> Seen:
    """Services under load at once, each with its share of the connections, as if they were one.

    Latencies are means of theirs.
    """
    each = CONNECTIONS // len(services)
    ask = partial(load, seconds=material.seconds, connections=each, core=ALL_CORES)
    with ThreadPoolExecutor() as threads:
        seen = list(threads.map(lambda service: ask(*service), services))
    shares = [each["processor_shares"] for each in seen]
    latencies = [each["milliseconds"] for each in seen]
    return {
        "per_second": sum(each["per_second"] for each in seen),
        "busy_share": sum(each["busy_share"] for each in seen),
        "milliseconds": {key: fmean(figures[key] for figures in latencies) for key in latencies[0]},
        "processor_shares": {
            "server": sum(share["server"] for share in shares),
            # Both loads have watched the same server.
            "postgres": fmean(share["postgres"] for share in shares),
        },
    }


@contextmanager
def quickstudy(
    log: Path,
    url: str,
    others: Mapping[str, int],
    workers: int = 1,
    core: int | None = SERVER_CORE,
    key: str = "",
    quickstudy: str = QUICKSTUDY,
) -> Iterator[Server]:
    """The service on a database, with everything on, as `quickstudy serve` starts it.

    Without a key, it is the first one on that database. `quickstudy` may be of another version.
    """
    port = free_port()
    command = [quickstudy, "serve", "--port", str(port), "--workers", str(workers)]
    environment = {"QUICKSTUDY_DATABASE_URL": url}
    with process(command, log, environment, lambda: answers(port, "/readyz"), core) as pid:
        words = log.read_text().split()
        found = key or next(word for word in words if word.startswith("qs_"))
        yield Server(port, {"server": pid, **others}, found)


def prepare(server: Server, prepared: Prepared) -> None:
    """Post the past and its labels."""
    with Client(f"http://{HOST}:{server.port}", server.key, timeout=120) as client:
        for first in range(0, len(prepared.past), AT_ONCE):
            client.score_batch(prepared.past[first : first + AT_ONCE])
        for first in range(0, len(prepared.labels), AT_ONCE):
            client.label_batch(prepared.labels[first : first + AT_ONCE])


def durably(material: Material, server: Server, scored: Requests, **how: Any) -> Seen:
    """A load, and beside it what a durable write takes."""
    seen = load(server, scored, material.seconds, **how)
    return {**seen, "sync_milliseconds": sync_milliseconds(material.folder)}
