"""What a score costs as tables grow, as `python -m benchmarks.growth [ROWS ACCOUNTS]`.

Two SQLite databases of 256 simulated accounts with labels, in one process, asked in turns: one
as it is, one filled by bulk load, first with more accounts, then with more transactions (of these
accounts) too. Told is the median of what a batch takes, and the ratio of the two.
"""

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

import torch

from app.database import upgrade
from app.labelling import Verdict
from app.pipeline import Posted
from app.schemas.transactions import PostedTransaction
from app.service import Service, running
from app.settings import Settings
from app.tables import accounts, transactions
from benchmarks.serving.traffic import Traffic, traffic

ROWS, ACCOUNTS = 1_000_000, 1_000_000
TENANT = "default"
BATCH, TURNS = 32, 40
WIDTHS = (1, 10, 100, 1000)
RESULTS = Path(__file__).with_name("results.json")
COUNTER = """WITH RECURSIVE counter(n) AS
  (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < :size) """


async def main(rows: int, wanted: int) -> None:
    torch.set_num_threads(1)
    simulated = traffic(256, 200)
    asked = [posted(one) for one in simulated.asked]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quickstudy-bench-")))
        services = []
        for name in ("small", "large"):
            settings = Settings(database_url=f"sqlite:///{folder / name}.db")
            await asyncio.to_thread(upgrade, settings.database_url)
            services.append(await stack.enter_async_context(running(settings)))
            await prepare(services[-1], simulated)
        small, large = services
        scorer = small.models.default
        print(f"a copy in the bank: {scorer.copy_bytes} bytes")
        begun = size(folder / "large.db")
        fill_accounts(folder / "large.db", wanted)
        an_account = (size(folder / "large.db") - begun) / wanted
        print(f"an account on disk: {an_account:.0f} bytes")
        ratios = {"growth.accounts": await compared(small, large, asked[: BATCH * TURNS])}
        begun = size(folder / "large.db")
        fill_transactions(folder / "large.db", rows, wanted)
        a_row = (size(folder / "large.db") - begun) / rows
        print(f"a transaction on disk, indexes and all: {a_row:.0f} bytes")
        asked = asked[BATCH * TURNS :]
        ratios["growth.rows"] = await compared(small, large, asked[: BATCH * TURNS])
        asked = asked[BATCH * TURNS :]
        for width in WIDTHS:
            took = [
                await seconds(small, asked[width * turn : width * (turn + 1)]) for turn in range(5)
            ]
            asked = asked[5 * width :]
            print(f"batch of {width}: {1e6 * statistics.median(took) / width:.0f} us a transaction")
    print(json.dumps(ratios))
    told = json.loads(RESULTS.read_text()) | {key: round(one, 3) for key, one in ratios.items()}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")


async def compared(small: Service, large: Service, asked: Sequence[Posted]) -> float:
    """The median time of a batch in the large database, to that in the small one."""
    took: dict[str, list[float]] = {"small": [], "large": []}
    for first in range(0, len(asked), BATCH):
        batch = asked[first : first + BATCH]
        took["small"].append(await seconds(small, batch))
        took["large"].append(await seconds(large, batch))
    medians = {name: 1e3 * statistics.median(values) for name, values in took.items()}
    print(f"a batch of {BATCH}: {medians['small']:.1f} and {medians['large']:.1f} ms")
    return medians["large"] / medians["small"]


async def seconds(service: Service, batch: Sequence[Posted]) -> float:
    """How long a batch takes, from its parsed payments to its commit."""
    begun = time.perf_counter()
    await service.pipeline.score(batch)
    return time.perf_counter() - begun


async def prepare(service: Service, simulated: Traffic) -> None:
    """Score the past and store its labels."""
    past = [posted(one) for one in simulated.past]
    for first in range(0, len(past), WIDTHS[-1]):
        await service.pipeline.score(past[first : first + WIDTHS[-1]])
    verdicts = [Verdict(one["transaction_id"], one["label"] == "fraud") for one in simulated.labels]
    await service.labelling.store_each(TENANT, verdicts)


def fill_accounts(path: Path, wanted: int) -> None:
    """Add so many copies of an account, without labels."""
    changed = {"account_id": "'filler-' || n", "fraud_labels": "0", "legitimate_labels": "0"}
    names = [column.name for column in accounts.columns]
    chosen = ", ".join(changed.get(name, f"one.{name}") for name in names)
    one = "(SELECT * FROM accounts ORDER BY account_id LIMIT 1)"
    fill(path, f"INSERT INTO accounts ({', '.join(names)})", chosen, one, wanted)


def fill_transactions(path: Path, rows: int, wanted: int) -> None:
    """Add so many copies of a transaction, each a minute before the other, to those accounts."""
    changed = {
        "transaction_id": "'filler-' || n",
        "account_id": f"'filler-' || (n % {wanted})",
        "occurred_at_us": "one.occurred_at_us - 60000000 * n",
    }
    names = [column.name for column in transactions.columns]
    chosen = ", ".join(changed.get(name, f"one.{name}") for name in names)
    one = "(SELECT * FROM transactions ORDER BY occurred_at_us DESC LIMIT 1)"
    fill(path, f"INSERT INTO transactions ({', '.join(names)})", chosen, one, rows)


def fill(path: Path, insert: str, chosen: str, one: str, wanted: int) -> None:
    """Insert `chosen` of `one` row so many times, in one statement."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        statement = f"{insert} {COUNTER} SELECT {chosen} FROM counter, {one} AS one"
        connection.execute(statement, {"size": wanted})
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def size(path: Path) -> int:
    return path.stat().st_size + path.with_name(f"{path.name}-wal").stat().st_size


def posted(body: dict[str, object]) -> Posted:
    return Posted(TENANT, PostedTransaction.model_validate(body).transaction())


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    asyncio.run(main(*(given or (ROWS, ACCOUNTS))))
