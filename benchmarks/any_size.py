"""Data larger than memory: `python -m benchmarks.any_size --rows 1000000 [--folder FOLDER]`.

So many rows are simulated in files of 300,000 or so, of other accounts each, who share merchants
and addresses. `quickstudy partition` and `quickstudy train` then run on them under a limit of
`--memory-gb` (RLIMIT_DATA: what a process writes for itself; pages of files that it maps can be
dropped). It shows the seconds of the clock and of the processors, and the most memory of each.
Training takes `--steps` of each stage; with 0 there is none.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from app.simulator.simulate import simulate
from benchmarks import results

ACCOUNTS, DAYS = 2000, 180
OWN = ("transaction_id", "account_id", "device_id", "card", "email")
GB = 1024**3
QUICKSTUDY = Path(sys.executable).with_name("quickstudy")


def simulated(folder: Path, rows: int) -> int:
    """Files of at least so many rows in all; how many there are."""
    folder.mkdir()
    found = seed = 0
    while found < rows:
        frame = simulate(ACCOUNTS, DAYS, seed).head(rows - found)
        # A file's accounts, and what is theirs alone, are those of no other file.
        own = [(f"{seed:03}-" + pl.col(name)).alias(name) for name in OWN]
        frame.with_columns(own).write_parquet(folder / f"{seed:05}.parquet")
        found, seed = found + len(frame), seed + 1
    return found


def measured(limit: int, *arguments: str | Path) -> dict[str, float]:
    """Run a command to its end under a limit of memory; its seconds and its most memory in MB."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [str(word) for word in (QUICKSTUDY, *arguments)]
    process = subprocess.Popen(words, preexec_fn=limited, stdout=subprocess.DEVNULL)
    most = {"RssAnon": 0, "VmHWM": 0}
    while process.poll() is None:
        for name, kilobytes in memory_of(process.pid).items():
            most[name] = max(most[name], kilobytes)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "processor_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        "own_mb": round(most["RssAnon"] / 1024),
        "mb": round(most["VmHWM"] / 1024),
    }


def memory_of(process: int) -> dict[str, int]:
    """What a process has for itself, and the most that it had with pages of files, in kB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":") for line in lines if line.startswith(("RssAnon", "VmHWM")))
    return {name: int(value.split()[0]) for name, value in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memory-gb", type=float, default=6.0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    limit = int(options.memory_gb * GB)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        files, parts = Path(folder) / "files", Path(folder) / "parts"
        rows = simulated(files, options.rows)
        steps = {
            "partition": ("--data", files, "--out", parts),
            "train": (
                *("--data", parts, "--out", Path(folder) / "model", "--device", "cpu"),
                *("--global-steps", str(options.steps), "--meta-steps", str(options.steps)),
            ),
        }
        figures = {
            command: measured(limit, command, "--spec", "simulated", *arguments)
            for command, arguments in steps.items()
            if command == "partition" or options.steps
        }
        size = sum(path.stat().st_size for path in parts.rglob("*") if path.is_file())
    for command, figure in figures.items():
        each = figure["processor_seconds"] / rows * 1e6
        print(
            f"{command}: {figure['seconds']:.0f} s, {figure['processor_seconds']:.0f} s of "
            f"processors ({each:.1f} us a row), {figure['own_mb']:,.0f} MB of its own, "
            f"{figure['mb']:,.0f} MB with pages of files"
        )
    print(f"{rows:,} rows, {size / rows:,.0f} bytes of parts a row, {os.cpu_count()} cores")
    results.keep({}, rows=rows, bytes_a_row=round(size / rows), **figures)


if __name__ == "__main__":
    main()
