"""Merchants learn from matured labels, exactly and no sooner, and unlearn them as exactly."""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.learner.columns import columns_of
from app.learner.features import MerchantLabels
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US, Transaction
from app.models.service import Models
from app.scoring.pipeline import Pipeline, Posted, in_a_thread_if
from app.scoring.records import Scored
from app.settings import Settings
from app.web.service import Service, running
from tests.checkpoints import tiny_checkpoint

pytestmark = pytest.mark.anyio

TENANT = "t"
DELAY_DAYS = 7  # of the built-in spec `handbook`


@pytest.fixture(scope="session")
def handbook_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "handbook"
    return tiny_checkpoint(folder, DatasetSpec.load("handbook"))


@pytest.fixture
async def service(database_url: str, handbook_checkpoint: Path) -> AsyncIterator[Service]:
    settings = Settings(
        database_url=database_url, model=handbook_checkpoint, device="cpu", bank_bytes=1 << 20
    )
    async with running(settings) as service:
        yield service


def paid(name: str, day: float, account: str = "a", merchant: str | None = "m") -> Transaction:
    at_us = round((100 + day) * DAY_US)
    return Transaction(name, account, at_us, Decimal(10), "EUR", merchant)


async def scored(service: Service, *transactions: Transaction) -> list[Scored]:
    answers = await service.part(Pipeline).score([Posted(TENANT, one) for one in transactions])
    return [answer for answer in answers if isinstance(answer, Scored)]


def feature(service: Service, row: Scored, name: str) -> float:
    position = service.part(Models).default.features.names.index(name)
    return float(np.frombuffer(row.features, "<f4")[position])


async def frauds_seen(service: Service, name: str, day: float) -> float:
    [row] = await scored(service, paid(name, day, account=f"asker-{name}"))
    return feature(service, row, "merchant_frauds_30d")


async def label(service: Service, name: str, is_fraud: bool = True, account: str = "a") -> None:
    await service.part(Labelling).store(TENANT, account, [Verdict(name, is_fraud)])


async def test_a_label_is_evidence_about_its_merchant_after_the_delay_and_not_before(
    service: Service,
) -> None:
    await scored(service, paid("t", 0))
    await label(service, "t")
    assert await frauds_seen(service, "before", DELAY_DAYS - 0.01) == 0
    assert await frauds_seen(service, "exactly", DELAY_DAYS) == 0
    assert await frauds_seen(service, "after", DELAY_DAYS + 0.01) > 0.6
    assert await frauds_seen(service, "late arrival", DELAY_DAYS + 0.005) >= 0
    assert await frauds_seen(service, "again", DELAY_DAYS + 0.01) > 0.6


async def test_a_batch_sees_each_label_from_its_own_time_on(service: Service) -> None:
    await scored(service, paid("t", 0))
    await label(service, "t")
    before, after = await scored(service, paid("u", DELAY_DAYS - 1), paid("v", DELAY_DAYS + 1))
    assert feature(service, before, "merchant_frauds_30d") == 0
    assert feature(service, after, "merchant_frauds_30d") > 0.6


async def test_a_removed_label_is_unlearned_by_its_merchant(service: Service) -> None:
    for name in ("t", "kept"):
        await scored(service, paid(name, 0))
    await label(service, "kept")
    alone = await frauds_seen(service, "one", 8)
    await label(service, "t")
    assert await frauds_seen(service, "two", 8) > alone
    await service.part(Labelling).remove(TENANT, "t")
    assert await frauds_seen(service, "three", 8) == alone


async def test_a_changed_label_is_changed_for_its_merchant(service: Service) -> None:
    await scored(service, paid("t", 0))
    await label(service, "t")
    assert await frauds_seen(service, "one", 8) > 0.6
    await label(service, "t", is_fraud=False)
    [row] = await scored(service, paid("u", 8, account="asker"))
    assert feature(service, row, "merchant_frauds_30d") == 0
    assert feature(service, row, "merchant_fraud_share_30d") == 0


async def test_transactions_without_a_merchant_are_scored_and_labelled(service: Service) -> None:
    rows = await scored(service, paid("t", 0, merchant=None), paid("u", 9, merchant=None))
    assert len(rows) == 2
    await label(service, "t")
    await service.part(Labelling).remove(TENANT, "t")


async def test_serving_one_by_one_in_batches_and_training_see_the_same_vectors(
    service: Service,
) -> None:
    random = np.random.default_rng(7)
    transactions = [
        paid(f"t-{n:03}", float(day), f"a-{random.integers(5)}", f"m-{random.integers(4)}")
        for n, day in enumerate(np.sort(random.uniform(0, 40, 300)).round(1))
    ]
    is_fraud = random.random(len(transactions)) < 0.3
    rows: list[Scored] = []
    first = 0
    # No batch spans the delay, so that every label is posted before it matures.
    for size in (1, 1, 1, 40, 7, *[25] * 10):
        chunk = transactions[first : first + size]
        rows += await scored(service, *chunk)
        for n, one in enumerate(chunk, start=first):
            await label(service, one.transaction_id, bool(is_fraud[n]), one.account_id)
        first += size
    assert first == len(transactions)

    columns, _, _ = columns_of(service.part(Models).default.spec, transactions)
    matures_us = columns.time_us_N + service.part(Models).default.spec.label.delay_us
    labels = MerchantLabels(columns.merchant_N, matures_us, is_fraud.astype(np.float64))
    expected_NF = service.part(Models).default.features.compute(columns, None, labels)
    served_NF = np.stack([np.frombuffer(row.features, "<f4") for row in rows])
    np.testing.assert_allclose(served_NF, expected_NF, atol=1e-6)


async def test_a_tenants_batch_mates_do_not_move_its_scores(service: Service) -> None:
    [alone] = await scored(service, paid("t", 0))
    mates = [Posted(f"tenant-{n}", paid("t", 0, account=f"a-{n}")) for n in range(30)]
    answers = await service.part(Pipeline).score([*mates, Posted("another", paid("t", 0))])
    last = answers[-1]
    assert isinstance(last, Scored)
    assert (last.probability, last.features) == (alone.probability, alone.features)
    assert last.tenant == "another"


async def test_a_thread_is_waited_for_even_when_whoever_asked_has_gone() -> None:
    """Else the next batch would take the bank while copies are still being put into it."""
    seen: list[str] = []

    def slow() -> None:
        time.sleep(0.2)
        seen.append("done")

    async def waiting() -> None:
        try:
            await in_a_thread_if(True, slow)
        finally:
            seen.append("left")

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen == ["done", "left"]
