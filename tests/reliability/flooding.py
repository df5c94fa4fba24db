"""More payments than can be answered, from a process of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.serving.processors import LOAD_CORE, pinned
from tests.api.requests import posted
from tests.servers import START_SECONDS

ACCOUNTS = 1_000
CONNECTIONS = 2_000


def payments(transactions: int) -> tuple[str, list[str]]:
    """A path, and bodies of so many payments each: `@` is for the number of the request."""
    bodies = [
        [
            posted(
                f"@-{n}",
                account_id=f"a-{(first + n) % ACCOUNTS}",
                merchant_id=f"m-{(first + 7 * n) % 97}",
                amount=10 + (first * 13 + n) % 190,
            )
            for n in range(transactions)
        ]
        for first in range(0, ACCOUNTS, transactions)
    ]
    if transactions == 1:
        return "/v1/transactions", [json.dumps(body) for [body] in bodies]
    return "/v1/transactions/batch", [json.dumps({"transactions": body}) for body in bodies]


def flood(
    port: int, key: str, transactions: int, prefix: str, seconds: float, **options: Any
) -> dict[str, Any]:
    """What `tests/reliability/load.py` saw; `transactions` are in one request."""
    path, templates = payments(transactions)
    plan = {
        "host": "127.0.0.1",
        "port": port,
        "path": path,
        "key": key,
        "templates": templates,
        "prefix": prefix,
        "seconds": seconds,
        "warm_seconds": 1.0,
        "per_second": 0.0,
        "in_flight": 0,
        "connections": CONNECTIONS,
        **options,
    }
    with pinned(LOAD_CORE):
        done = subprocess.run(
            [sys.executable, "-m", "tests.reliability.load"],
            input=json.dumps(plan),
            capture_output=True,
            text=True,
            timeout=seconds + START_SECONDS,
            check=True,
            cwd=Path(__file__).parents[2],
        )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
