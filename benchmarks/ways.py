"""The files that a score, a label and a training pass: how many there are, and their lines.

    python -m benchmarks.ways [--names]

A file of `app/` counts where one of its functions is called between a request and its answer, on
SQLite and without a GPU, or while a small training runs. What runs at start-up does not count.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
HOUSE = str(Path(app.__file__).parent) + os.sep

called: set[CodeType] = set()


def note(frame: FrameType, event: str, _: Any) -> None:
    if event == "call":
        called.add(frame.f_code)


@contextmanager
def way(name: str) -> Iterator[None]:
    """Prints which files are passed meanwhile."""
    called.clear()
    yield
    files = sorted({code.co_filename for code in called.copy()})
    files = [file for file in files if file.startswith(HOUSE)]
    lines = sum(len(Path(file).read_text().splitlines()) for file in files)
    print(f"{name:12}{len(files):3} files {lines:6,} lines", flush=True)
    if "--names" in sys.argv:
        print("   ", " ".join(file.removeprefix(HOUSE) for file in files), flush=True)


def quickstudy(*arguments: str) -> str:
    """What a command prints, run in a process of its own."""
    command = [str(Path(sys.executable).with_name("quickstudy")), *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def requests(port: int, key: str) -> None:
    """The ways of the second score of an account, and of its first label."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
        while True:
            try:
                client.get("/readyz").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        first = {**PAYMENT, "transaction_id": "t-0"}
        client.post("/v1/transactions", json=first).raise_for_status()
        with way("a score"):
            client.post("/v1/transactions", json=PAYMENT).raise_for_status()
        with way("a label"):
            label = {"label": "fraud"}
            client.put("/v1/transactions/t-1/label", json=label).raise_for_status()


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
        with way("a training"):
            commands([*training, "--global-steps", "5", "--meta-steps", "5"], standalone_mode=False)
        sys.setprofile(None)
        threading.setprofile(note)
        threading.Thread(target=serve, args=[Settings()], daemon=True).start()
        requests(port, key)
        # The server's thread ends with the process.


if __name__ == "__main__":
    main()
