"""The files that a score, a label and a training pass: how many there are, and their lines.

    python -m benchmarks.ways [--names]

A file of `app/` counts where one of its functions is called between a request and its answer, on
SQLite and without a GPU, or while a small training runs. What runs at start-up does not count, nor
what runs beside requests: of several requests, the files count that all of them pass.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx

import app
from app.cli.main import app as commands
from app.settings import Settings
from app.web.server import serve
from tests.postgres import free_port

PAYMENT = {
    "transaction_id": "t-1",
    "account_id": "a-1",
    "occurred_at": "2026-02-03T09:30:00Z",
    "amount": "10.00",
    "currency": "EUR",
    "merchant_id": "m-1",
}
# Of each kind: in so many, what runs each second falls between some.
REQUESTS = 4
HOUSE = str(Path(app.__file__).parent) + os.sep

called: set[CodeType] = set()


def note(frame: FrameType, event: str, _: Any) -> None:
    if event == "call":
        called.add(frame.f_code)


def passed(pass_once: Callable[[], None]) -> set[str]:
    """The files of the house that are passed meanwhile."""
    called.clear()
    pass_once()
    files = {code.co_filename for code in called.copy()}
    return {file for file in files if file.startswith(HOUSE)}


def show(name: str, files: set[str]) -> None:
    lines = sum(len(Path(file).read_text().splitlines()) for file in files)
    print(f"{name:12}{len(files):3} files {lines:6,} lines", flush=True)
    if "--names" in sys.argv:
        print("   ", " ".join(sorted(file.removeprefix(HOUSE) for file in files)), flush=True)


def quickstudy(*arguments: str) -> str:
    """What a command prints, run in a process of its own."""
    command = [str(Path(sys.executable).with_name("quickstudy")), *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def ready(port: int) -> None:
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/readyz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return


def requests(port: int, key: str) -> None:
    """The ways of scores of an account, after its first, and of labels."""
    ready(port)
    numbers = itertools.count()
    url, headers = f"http://127.0.0.1:{port}/v1/transactions", {"Authorization": f"Bearer {key}"}

    def score() -> None:
        payment = {**PAYMENT, "transaction_id": f"t-{next(numbers)}"}
        httpx.post(url, json=payment, headers=headers).raise_for_status()

    def label() -> None:
        address = f"{url}/t-{next(labelled)}/label"
        httpx.put(address, json={"label": "fraud"}, headers=headers).raise_for_status()

    def way(request: Callable[[], None]) -> set[str]:
        return set.intersection(*(passed(request) for _ in range(REQUESTS)))

    score()
    labelled = itertools.count()
    show("a score", way(score))
    show("a label", way(label))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        os.environ.update(
            QUICKSTUDY_DATABASE_URL=f"sqlite:///{folder}/ways.db",
            QUICKSTUDY_PORT=str(port),
            QUICKSTUDY_HOST="127.0.0.1",
            QUICKSTUDY_LOG_LEVEL="error",
        )
        quickstudy("db", "upgrade")
        key = quickstudy("keys", "create", "ways").split()[-1]
        payments = f"{folder}/payments.parquet"
        quickstudy("simulate", "--accounts", "200", "--out", payments)
        training = ["train", "--data", payments, "--spec", "simulated", "--out", f"{folder}/model"]
        sys.setprofile(note)
        steps = ["--global-steps", "5", "--meta-steps", "5"]
        show("a training", passed(lambda: commands([*training, *steps], standalone_mode=False)))
        sys.setprofile(None)
        threading.setprofile(note)
        threading.Thread(target=serve, args=[Settings()], daemon=True).start()
        requests(port, key)
        # The server's thread ends with the process.


if __name__ == "__main__":
    main()
