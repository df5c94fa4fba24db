"""This version beside others, by turns, as `python -m benchmarks.versions NAME=COMMAND ...`.

COMMAND is `quickstudy` of another version, installed in an environment of its own; this one is
called `now`. Each has databases of its own and the same payments. Single payments come over 32
connections; batches, of 1,000 payments of 1,000 accounts, over one; the overload is twice as many
single payments, of other days, as could be answered just before it. A ratio is of one round,
against the first COMMAND, and the median of the rounds is printed.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.serving.contestants import QUICKSTUDY, prepare, quickstudy
from benchmarks.serving.driving import CONNECTIONS, Requests, Server, load
from benchmarks.serving.material import AT_ONCE, Material
from benchmarks.serving.postgres import postgres
from benchmarks.serving.processors import SERVER_CORE
from tests.reliability.flooding import flood

# More than a second can use up: single payments and batches.
SINGLES, BATCHES = 5_000, 10
# Payments for twice as many as can be answered, and for finding out how many these are.
LOADS = 4
# Requests that are open while as many are answered as can be; how many times as many come then.
IN_FLIGHT, TIMES = 64, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("others", nargs="+", metavar="NAME=COMMAND")
    parser.add_argument("--database", default="sqlite", choices=("sqlite", "postgresql"))
    parser.add_argument("--only", default="single,batch,overload", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    chosen = parser.parse_args()
    versions = dict(other.split("=", 1) for other in chosen.others) | {"now": QUICKSTUDY}
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name, ExitStack() as stack:
        material = Material(Path(name), chosen.rounds, chosen.seconds, SINGLES, BATCHES, LOADS)
        others: dict[str, int] = {}
        database: Callable[[str], str] = f"sqlite:///{name}/{{}}.db".format
        if chosen.database == "postgresql":
            server = stack.enter_context(postgres(SERVER_CORE))
            others, database = {"postgres": server.pid}, server.create
        figures = [
            taken(kind, material, versions, stack, database, others)
            for kind in chosen.only.split(",")
        ]
    for each in figures:
        for figure, of_version in each.items():
            [first, *rest] = of_version
            for other in rest:
                pairs = zip(of_version[other], of_version[first], strict=True)
                ratio = statistics.median(ours / theirs for ours, theirs in pairs)
                print(f"{chosen.database} {figure}, {other} to {first}: {ratio:.3f}")


def taken(
    kind: str,
    material: Material,
    versions: Mapping[str, str],
    stack: ExitStack,
    database: Callable[[str], str],
    others: Mapping[str, int],
) -> dict[str, dict[str, list[float]]]:
    """Figures of each round, by what they are and by version."""
    prepared = material.batches if kind == "batch" else material.singles
    courses = {}
    for version, command in versions.items():
        log, url = material.folder / f"{version}-{kind}.log", database(f"{version}_{kind}")
        server = stack.enter_context(quickstudy(log, url, others, quickstudy=command))
        prepare(server, prepared)
        requests = Requests(prepared.requests, BATCHES if kind == "batch" else SINGLES)
        courses[version] = server, requests
    figures: dict[str, dict[str, list[float]]] = {}
    for n in range(material.rounds):
        # There and back, so that a drift of the machine favours nobody.
        for version in reversed(courses) if n % 2 else courses:
            server, requests = courses[version]
            if kind == "overload":
                seen = overload(server, material, n)
            else:
                seen = rate(server, requests, material.seconds, kind == "batch")
            print(json.dumps({"version": version, **seen}), flush=True)
            for figure, value in seen.items():
                figures.setdefault(figure, {name: [] for name in versions})[version].append(value)
    return figures


def rate(server: Server, requests: Requests, seconds: float, is_batch: bool) -> dict[str, float]:
    """Payments a second, and what of the processors each takes."""
    units, connections = (AT_ONCE, 1) if is_batch else (1, CONNECTIONS)
    seen = load(server, requests, seconds, units=units, connections=connections)
    name = "in batches" if is_batch else "single"
    per_second, busy = seen["per_second"], sum(seen["processor_shares"].values())
    return {
        f"payments a second, {name}": per_second,
        f"processor µs a payment, {name}": 1e6 * busy / per_second,
    }


def overload(server: Server, material: Material, round_: int) -> dict[str, float]:
    """Payments a second that are answered: as many as can be, and of twice as many.

    Each account pays about once a day: what is risky in a burst costs its reasons, too.
    """

    def answered(name: str, part: int, per_second: float = 0.0, in_flight: int = 0) -> float:
        templates = material.templates(2 * round_ + part, 2 * material.rounds)
        seen = flood(
            *(server.port, server.key, 1, f"{name}-{round_}", material.seconds),
            templates=templates,
            per_second=per_second,
            in_flight=in_flight,
        )
        return float(seen["per_second"])

    peak = answered("peak", 0, in_flight=IN_FLIGHT)
    goodput = answered("flood", 1, per_second=TIMES * peak)
    return {"payments a second, at most": peak, "payments a second, overloaded": goodput}


if __name__ == "__main__":
    main()
