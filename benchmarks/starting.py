"""How soon the service is ready, and the memory of its process, as `python -m benchmarks.starting`.

On a SQLite file that is not there yet, so that it is made first, and on the same one again. The
memory is what the process of `quickstudy serve` has resident once it has answered a score, in
megabytes of a million bytes.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.contestants import ALL_CORES, QUICKSTUDY, quickstudy
from benchmarks.serving.processors import resident_bytes
from quickstudy_client import Client
from tests.api.requests import posted

# After an answer, until what runs behind it has ended.
CALM_SECONDS = 1.0


class Started(NamedTuple):
    """A key, the seconds until a service is ready, and its megabytes after a score."""

    key: str
    seconds: float
    megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--command", default=QUICKSTUDY, help="quickstudy of another version")
    chosen = parser.parse_args()
    first: list[Started] = []
    following: list[Started] = []
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name:
            first.append(started(Path(name), chosen.command))
            following.append(started(Path(name), chosen.command, first[-1].key))
    for name, figures in (("first start", first), ("next start", following)):
        seconds = statistics.median(figure.seconds for figure in figures)
        megabytes = statistics.median(figure.megabytes for figure in figures)
        print(f"{name}: ready after {seconds:.2f} s, {megabytes:.1f} MB after a score")


def started(folder: Path, command: str, key: str = "") -> Started:
    """Of a service on the file in the folder; its first key where none is given."""
    begun = time.perf_counter()
    url = f"sqlite:///{folder}/service.db"
    with quickstudy(folder / "log", url, {}, core=ALL_CORES, key=key, quickstudy=command) as server:
        seconds = time.perf_counter() - begun
        with Client(f"http://127.0.0.1:{server.port}", server.key) as client:
            client.score(posted("t-1" if not key else "t-2"))
        time.sleep(CALM_SECONDS)
        megabytes = resident_bytes(server.processes["server"]) / 1e6
        return Started(server.key, seconds, megabytes)


if __name__ == "__main__":
    main()
