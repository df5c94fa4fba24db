"""Requests a second and latencies under load, as `python -m benchmarks.throughput`.

One core for servers and one for the load generator, 32 connections, simulated payments of 256
accounts with labels. Quickstudy has everything on: keys, validation, features, adapted copies,
reasons, a durable commit; so has PostgreSQL, which shares the service's core. The rivals store
nothing, but for one on either database, which is what a user would write instead. Batches are of
1,000 payments of 1,000 accounts, on one connection; so are single payments that come alone, one
after another. Labels are 50 posts a second beside the single payments. Two workers are compared
with one on PostgreSQL, where nothing is pinned, and the shares of the processors show what the
cores did. Two services that share nothing but the database server show what the cores could have
done.

Everything is measured once a round, side by side: a ratio is of one round, and the median of the
rounds is printed. A whole run is kept in results.json; with an option, figures are only printed.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.results import keep
from benchmarks.rivals.environment import RIVALS
from benchmarks.serving.contestants import ALL_CORES, Measures, one_core, rivals, workers
from benchmarks.serving.driving import Seen
from benchmarks.serving.material import Material
from benchmarks.serving.postgres import postgres
from benchmarks.serving.processors import SERVER_CORE

ROUNDS, SECONDS = 5, 5.0
SQLITE, POSTGRESQL, WORKERS = "", "postgresql.", "workers"
# In this order, as the machine drifts: plain FastAPI, the one to beat, is right before the service.
FIGURES = [
    *reversed(RIVALS),
    *(
        f"{on}{name}"
        for on in (SQLITE, POSTGRESQL)
        for name in ("stored", "single", "labels", "alone", "batch")
    ),
    WORKERS,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("--only", default=",".join(FIGURES), help="figures, separated by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    chosen = parser.parse_args()
    wanted = chosen.only.split(",")
    if unknown := set(wanted) - set(FIGURES):
        parser.error(f"no figure is called {unknown.pop()}; there are {', '.join(FIGURES)}")
    rounds = measured(wanted, chosen.rounds, chosen.seconds)
    each = [ratios(figures) for figures in rounds]
    medians = {key: statistics.median(ratio_of[key] for ratio_of in each) for key in each[0]}
    for key, ratio in medians.items():
        print(f"{key}: {ratio:.3f}")
    if chosen == parser.parse_args([]):
        keep(medians, rounds=rounds)


def measured(wanted: list[str], rounds: int, seconds: float) -> list[dict[str, Seen]]:
    """The figures of each round; those of workers come last, when the other servers have ended."""
    figures: list[dict[str, Seen]] = [{} for _ in range(rounds)]
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name:
        material = Material(Path(name), rounds, seconds)
        with ExitStack() as stack:
            measures = rivals(material)
            url = f"sqlite:///{material.folder}/{{}}.db"
            measures |= one_core(material, stack, SQLITE, url.format, {})
            if any(figure.startswith(POSTGRESQL) for figure in wanted):
                database = stack.enter_context(postgres(SERVER_CORE))
                others = {"postgres": database.pid}
                measures |= one_core(material, stack, POSTGRESQL, database.create, others)
            chosen = [name for name in FIGURES if name in wanted and name in measures]
            take({name: measures[name] for name in chosen}, figures)
        if WORKERS in wanted:
            with ExitStack() as stack:
                database = stack.enter_context(postgres(ALL_CORES))
                take(workers(material, stack, database), figures)
    return figures


def take(measures: Measures, rounds: list[dict[str, Seen]]) -> None:
    for n, figures in enumerate(rounds):
        # There and back, so that a drift of the machine favours nobody.
        for name in reversed(measures) if n % 2 else measures:
            figures[name] = measures[name]()
            print(f"{name}: {json.dumps(figures[name])}", flush=True)


def ratios(figures: dict[str, Seen]) -> dict[str, float]:
    """Those of a round, as far as it has both figures."""
    found = {}

    def compare(key: str, first: str, other: str, of: Callable[[Seen], float] = rate) -> None:
        if first in figures and other in figures:
            found[key] = of(figures[first]) / of(figures[other])

    for on in (SQLITE, POSTGRESQL):
        single = f"{on}single"
        compare(f"{single}.vs_stored", single, f"{on}stored")
        for rival in RIVALS:
            compare(f"{single}.vs_{rival}", single, rival)
        if single in figures:
            found[f"{single}.p99_over_p50"] = (
                p99(figures[single]) / figures[single]["milliseconds"]["p50"]
            )
        compare(f"{on}batch.vs_single", f"{on}batch", single)
        compare(f"{on}batch.vs_alone", f"{on}batch", f"{on}alone")
        compare(f"{on}labels.p99_ratio", f"{on}labels", single, p99)
    compare("workers.two_over_one", "workers.two", "workers.one")
    compare("workers.apart_over_one", "workers.apart", "workers.one")
    return found


def rate(seen: Seen) -> float:
    found: float = seen["per_second"]
    return found


def p99(seen: Seen) -> float:
    found: float = seen["milliseconds"]["p99"]
    return found


if __name__ == "__main__":
    main()
