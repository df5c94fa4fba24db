"""Replicas that score payments of one merchant, as `python -m benchmarks.replicas`.

Of 4 replicas with 10 ms to the database and back, payments a second of as many accounts: all at one
merchant, and each at one of its own; and of one replica alone. With durable commits, in turn, round
by round: a ratio is of one round, and the median is printed. Deadlocks are counted.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from app.db.migrating import upgrade
from tests.api.requests import posted
from tests.checkpoints import tiny_checkpoint
from tests.postgres import DURABLE, execute, free_port, postgres_server
from tests.servers import Server, new_key, server_process

REPLICAS, ROUND_TRIP_SECONDS = 4, 0.01
ACCOUNTS, IN_FLIGHT = 64, 16
WARM_SECONDS = 2.0
DEADLOCKS = """DO $$ BEGIN ASSERT
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) = 0;
END $$"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--entities", type=int, default=1, choices=(1, 3), help="of a payment")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgres_server(DURABLE))
        url = database.create("replicas")
        upgrade(url)
        port = stack.enter_context(far_away(database.port))
        far = f"postgresql://postgres@127.0.0.1:{port}/replicas"
        model = tiny_checkpoint(folder)
        # One after another: their start-up would keep the way there too busy.
        some = [stack.enter_context(server_process(far, model)) for _ in range(REPLICAS)]
        key = new_key(url)
        rounds = []
        for n in range(chosen.rounds):
            seen = {
                name: load(some[:count], key, f"{name}-{n}", chosen, is_one)
                for name, count, is_one in (
                    ("one merchant", REPLICAS, True),
                    ("a merchant each", REPLICAS, False),
                    ("one merchant, alone", 1, True),
                )
            }
            print(json.dumps(seen), flush=True)
            rounds.append(seen)
        execute(url, DEADLOCKS)
    ratios = [figures["one merchant"] / figures["a merchant each"] for figures in rounds]
    print(f"one merchant, against a merchant each: {statistics.median(ratios):.3f}; no deadlock")


def load(
    servers: list[Server], key: str, name: str, chosen: argparse.Namespace, is_one: bool
) -> float:
    """Payments a second of all of them, each with accounts of its own."""

    def ask(n: int) -> float:
        templates = [
            posted(
                "@",
                account_id=f"{name}-{n}-{account}",
                merchant_id="marketplace" if is_one else f"{name}-{n}-{account}",
                **entities(f"{n}-{account}") if chosen.entities > 1 else {},
            )
            for account in range(ACCOUNTS)
        ]
        plan = {
            "host": "127.0.0.1",
            "port": servers[n].port,
            "path": "/v1/transactions",
            "key": key,
            "templates": [json.dumps(template) for template in templates],
            "prefix": f"{name}-{n}",
            "seconds": chosen.seconds,
            "warm_seconds": WARM_SECONDS,
            "per_second": 0.0,
            "in_flight": IN_FLIGHT,
            "connections": IN_FLIGHT,
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.reliability.load"],
            input=json.dumps(plan).encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        assert set(found["statuses"]) == {"200"}, found["statuses"]
        rate: float = found["per_second"]
        return rate

    with ThreadPoolExecutor(len(servers)) as threads:
        return round(sum(threads.map(ask, range(len(servers)))), 1)


def entities(account: str) -> dict[str, str]:
    return {"device_id": f"d-{account}", "ip_address": "203.0.113.7"}


@contextmanager
def far_away(port: int) -> Iterator[int]:
    """A port that leads to another one, half a round trip away each way."""
    near = free_port()
    ready, loop = threading.Event(), uvloop.new_event_loop()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(delayed(reader, there[1]), delayed(there[0], writer))

    async def listen() -> None:
        await asyncio.start_server(lead, "127.0.0.1", near)
        ready.set()

    def run() -> None:
        loop.create_task(listen())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    yield near
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def delayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, as it came, but later."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(1 << 20):
        loop.call_later(ROUND_TRIP_SECONDS / 2, writer.write, data)
    loop.call_later(ROUND_TRIP_SECONDS / 2, writer.close)


if __name__ == "__main__":
    main()
