"""Entities learn from matured labels, exactly and no sooner, and unlearn them as exactly.

And what batches, links and statuses make of the sums.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from app.accounts import store as account_store
from app.db.database import Database
from app.db.schema import links
from app.db.statements import columns
from app.entities import states as entity_states
from app.entities.states import EntityState, Link
from app.erasures.service import ErasureService
from app.http.parts import Service
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.learner.columns import columns_of
from app.learner.features import EntityLabels
from app.learner.spec import DatasetSpec
from app.learner.states import States
from app.learner.transaction import (
    ASIDE,
    DAY_US,
    NO_ENTITY,
    REFUSED,
    SPENT,
    TRIED,
    Status,
    Transaction,
)
from app.models.service import Models
from app.scoring.pipeline import Pipeline, Posted, in_a_thread_if
from app.scoring.records import Scored
from app.scoring.statuses import change_status
from app.settings import Settings
from app.web.service import running
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly

pytestmark = pytest.mark.anyio

TENANT = "t"
DELAY_DAYS = 7  # of the built-in spec `handbook`


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in spec `handbook`, with more kinds of entities."""
    kinds = {"merchant": "merchant_id", "device": "device_id", "wallet": "wallet"}
    spec = DatasetSpec.load("handbook").model_copy(update={"entities": kinds})
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "wide", spec)


@pytest.fixture
async def service(database_url: str, wide_checkpoint: Path) -> AsyncIterator[Service]:
    settings = Settings(
        database_url=database_url, model=wide_checkpoint, device="cpu", bank_bytes=1 << 20
    )
    async with running(settings) as service:
        yield service


def paid(
    name: str, day: float, account: str = "a", merchant: str | None = "m", **more: Any
) -> Transaction:
    at_us = round((100 + day) * DAY_US)
    return Transaction(name, account, at_us, Decimal(10), "EUR", merchant, **more)


async def scored(service: Service, *transactions: Transaction) -> list[Scored]:
    answers = await service.part(Pipeline).score(
        [Posted(TENANT, transaction) for transaction in transactions]
    )
    return [answer for answer in answers if isinstance(answer, Scored)]


def feature(service: Service, row: Scored, name: str) -> float:
    position = service.part(Models).default.features.names.index(name)
    return float(np.frombuffer(row.features, "<f4")[position])


async def frauds_seen(service: Service, name: str, day: float, **more: Any) -> float:
    [row] = await scored(service, paid(name, day, account=f"asker-{name}", **more))
    kind = "device" if "device_id" in more else "wallet" if "entities" in more else "merchant"
    return feature(service, row, f"{kind}_frauds_30d")


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
    assert await frauds_seen(service, "late arrival", DELAY_DAYS + 0.005) > 0.6
    assert await frauds_seen(service, "again", DELAY_DAYS + 0.01) > 0.6


async def test_a_late_payment_sees_the_labels_that_had_matured_when_it_occurred(
    service: Service,
) -> None:
    days = (0, 10, 20)
    await scored(service, *(paid(f"t-{day}", day) for day in days))
    for day in days:
        await label(service, f"t-{day}")
    assert await frauds_seen(service, "in time", DELAY_DAYS + 30) > 0.9
    for n, day in enumerate((-1, 5, 15)):
        row, same = await scored(
            service,
            paid(f"late-{n}", DELAY_DAYS + day, account="late"),
            paid(f"other-{n}", DELAY_DAYS + 30, account="other"),
        )
        # Halved in 30 days.
        weights = [2 ** ((past - day) / 30) for past in days if past < day]
        seen = feature(service, row, "merchant_frauds_30d")
        assert seen == pytest.approx(np.log1p(sum(weights)))
        assert feature(service, same, "merchant_frauds_30d") > 0.9
    # Nothing was folded twice.
    whole = np.log1p(sum(2 ** ((day - 30) / 30) for day in days))
    assert await frauds_seen(service, "at last", DELAY_DAYS + 30) == pytest.approx(whole)


async def test_a_batch_sees_each_label_from_its_own_time_on(service: Service) -> None:
    await scored(service, paid("t", 0))
    await label(service, "t")
    before, after = await scored(service, paid("u", DELAY_DAYS - 1), paid("v", DELAY_DAYS + 1))
    assert feature(service, before, "merchant_frauds_30d") == 0
    assert feature(service, after, "merchant_frauds_30d") > 0.6


@pytest.mark.parametrize(
    ("named", "other"),
    [
        ({"device_id": "d"}, {"device_id": "other"}),
        ({"entities": {"wallet": "w"}}, {"entities": {"wallet": "other"}}),
    ],
    ids=["device", "wallet"],
)
async def test_a_label_is_evidence_about_each_entity_of_its_payment(
    service: Service, named: Any, other: Any
) -> None:
    await scored(service, paid("t", 0, **named))
    await label(service, "t")
    assert await frauds_seen(service, "exactly", DELAY_DAYS, merchant=None, **named) == 0
    assert await frauds_seen(service, "elsewhere", DELAY_DAYS + 1, **other) == 0
    assert await frauds_seen(service, "after", DELAY_DAYS + 1, merchant=None, **named) > 0.6
    # Folded, it is forgotten by all of them; and set again, it is evidence again.
    for name in ("one", "two"):
        assert await frauds_seen(service, f"{name} merchant", DELAY_DAYS + 1) > 0.6
        await service.part(Labelling).remove(TENANT, "t")
        assert await frauds_seen(service, f"{name} gone", DELAY_DAYS + 1) == 0
        assert await frauds_seen(service, f"{name} forgotten", DELAY_DAYS + 1, **named) == 0
        await label(service, "t")
        assert await frauds_seen(service, f"{name} again", DELAY_DAYS + 1, **named) > 0.6


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


@mainly("sqlite")
async def test_serving_one_by_one_in_batches_and_training_see_the_same_vectors(
    service: Service,
) -> None:
    random = np.random.default_rng(7)
    transactions = [
        paid(
            f"t-{n:03}", float(day), f"a-{random.integers(5)}", f"m-{random.integers(4)}"
        )._replace(
            device_id=random.choice(["d-1", "d-2", "d-3", None]),
            entities={"wallet": "w"} if random.random() < 0.3 else {},
            type=random.choice(["payment", "payment", "refund", "verification"]),
            status=random.choice([None, None, "authorised", "declined", "reversed"]),
        )
        for n, day in enumerate(np.sort(random.uniform(0, 40, 300)).round(1))
    ]
    is_fraud = random.random(len(transactions)) < 0.3
    rows: list[Scored] = []
    first = 0
    # No batch spans the delay, so that every label is posted before it matures.
    for size in (1, 1, 1, 40, 7, *[25] * 10):
        chunk = transactions[first : first + size]
        rows += await scored(service, *chunk)
        for n, payment in enumerate(chunk, start=first):
            await label(service, payment.transaction_id, bool(is_fraud[n]), payment.account_id)
        first += size
    assert first == len(transactions)

    found, _ = columns_of(service.part(Models).default.spec, transactions)
    matures_us = found.time_us_N + service.part(Models).default.spec.label.delay_us
    found.standing_N[:] = [
        row.standing(payment.type) for row, payment in zip(rows, transactions, strict=True)
    ]
    assert set(found.standing_N) == {SPENT, REFUSED, TRIED, ASIDE}
    named_N, kinds = np.nonzero(found.entity_NK != NO_ENTITY)
    labels = EntityLabels(
        found.entity_NK[named_N, kinds], matures_us[named_N], is_fraud[named_N].astype(np.float64)
    )
    expected_NF = service.part(Models).default.features.compute(found, None, labels)
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


async def test_a_thread_is_waited_for_even_when_its_caller_has_gone() -> None:
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


def spending(account: str) -> list[Transaction]:
    """Payments so different that some are refused, and so near that others count them."""
    amounts = [10, 12, 9, 4000, 11, 90_000, 10, 13, 2_000_000, 12, 10, 11]
    return [
        paid(f"{account}-{n:02}", n / 300, account, device_id=f"{account}-d{n % 5}")._replace(
            amount=Decimal(amount)
        )
        for n, amount in enumerate(amounts)
    ]


async def test_a_batch_counts_what_it_refuses_as_single_requests_would(service: Service) -> None:
    batch = await service.part(Pipeline).score(
        [Posted("batch", payment) for payment in spending("a")]
    )
    singles = []
    for payment in spending("a"):
        singles += await service.part(Pipeline).score([Posted("singles", payment)])
    outcomes = {row.outcome for row in batch if isinstance(row, Scored)}
    assert "approve" in outcomes
    assert len(outcomes) > 1
    for alone, together in zip(singles, batch, strict=True):
        assert isinstance(alone, Scored)
        assert isinstance(together, Scored)
        assert (alone.features, alone.outcome) == (together.features, together.outcome)
        assert alone.probability == pytest.approx(together.probability, abs=1e-12)


async def stored_links(service: Service) -> set[Link]:
    async with service.part(Database).read() as connection:
        return set(await connection.read(Link._make, select(*columns(links, Link))))


async def test_a_link_is_there_from_the_first_use_and_moves_to_an_older_one_alone(
    service: Service,
) -> None:
    first = paid("t-1", 5, device_id="d")
    await scored(service, first, paid("t-2", 6, device_id="d"))
    await scored(service, paid("t-3", 7, device_id="d"), paid("b", 7, "b", None, device_id="d"))
    at_us = first.occurred_at_us
    device = Link(TENANT, "device", "d", "a", at_us)
    other = device._replace(account_id="b", first_use_us=at_us + 2 * DAY_US)
    merchant = device._replace(kind="merchant", entity_id="m")
    assert await stored_links(service) == {device, other, merchant}
    [row] = await scored(service, paid("t-4", 7.5, device_id="d"))
    assert feature(service, row, "device_used") == 1
    assert feature(service, row, "device_accounts_ever") == pytest.approx(np.log1p(2))
    await scored(service, paid("late", 1, merchant=None, device_id="d"))
    older = device._replace(first_use_us=at_us - 4 * DAY_US)
    assert await stored_links(service) == {older, other, merchant}


async def state_of(service: Service, account: str) -> States:
    async with service.part(Database).read() as connection:
        row = await account_store.account(connection, TENANT, account)
    assert row
    return States.from_bytes([row.state], service.part(Models).default.features.account_sums)


async def test_a_status_moves_a_payment_in_the_sums_as_if_it_had_come_with_it(
    service: Service,
) -> None:
    """Now and later, to and fro; what attempts came before is kept in single precision."""
    becomes: dict[int, Status] = {0: "declined", 3: "authorised", 4: "reversed", 5: "declined"}
    reported = [
        payment._replace(status=becomes.get(n, "authorised"))
        for n, payment in enumerate(spending("reported"))
    ]
    await scored(service, *reported[:6])
    later = [
        payment._replace(status=None if n in becomes else "authorised")
        for n, payment in enumerate(spending("later"))
    ]
    await scored(service, *later[:6])

    async def change(status: Mapping[int, Status]) -> dict[str, str | None]:
        pipeline = service.part(Pipeline)
        wanted = {later[n].transaction_id: value for n, value in status.items()}
        return await service.part(Database).run(
            lambda connection: change_status(connection, pipeline, TENANT, "later", wanted)
        )

    untouched = await state_of(service, "later")
    assert await change(dict.fromkeys(becomes, "reversed")) == {
        later[n].transaction_id: None for n in becomes
    }
    assert (await change(becomes))[later[0].transaction_id] == "reversed"
    await assert_same_sums(service, "later", "reported")
    assert (await state_of(service, "later")).packed != untouched.packed
    await scored(service, *reported[6:], *later[6:])
    await change(dict.fromkeys(becomes, "declined"))
    await change(becomes)
    await assert_same_sums(service, "later", "reported")


async def assert_same_sums(service: Service, account: str, other: str) -> None:
    found, wanted = await state_of(service, account), await state_of(service, other)
    np.testing.assert_array_equal(found.time_us_G, wanted.time_us_G)
    np.testing.assert_array_equal(found.previous_us_G, wanted.previous_us_G)
    np.testing.assert_allclose(found.before_GD, wanted.before_GD, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.at_GD, wanted.at_GD, rtol=1e-6, atol=1e-8)


async def test_a_status_of_what_is_not_the_accounts_changes_nothing(service: Service) -> None:
    await scored(service, paid("t", 0), paid("u", 0, account="b"))
    before = await state_of(service, "b")
    pipeline = service.part(Pipeline)
    wanted: dict[str, Status] = {"t": "declined", "nothing": "declined"}
    found = await service.part(Database).run(
        lambda connection: change_status(connection, pipeline, TENANT, "b", wanted)
    )
    assert found == {}
    assert (await state_of(service, "b")).packed == before.packed


async def slots_of(service: Service, merchant: str) -> list[EntityState]:
    async with service.part(Database).read() as connection:
        key = "merchant", merchant
        return (await entity_states.states_of(connection, TENANT, [key]))[key]


async def assert_same_entity(service: Service, account: str, other: str) -> int:
    """Whatever slots they have, how many the first one has."""
    features = service.part(Pipeline).features
    wholes, labels = [], []
    slots = [await slots_of(service, merchant) for merchant in (account, other)]
    for first, *others in slots:
        own = States.from_bytes([first.state], features.entity_sums)
        states = States.from_bytes([row.state for row in others], features.entity_sums)
        wholes.append(features.gather(own, np.zeros(len(others), np.int64), states))
        labels.append(States.from_bytes([first.label_state], features.confirmed_sums))
        assert [row.label_state for row in others] == [None] * len(others)
    for found, wanted in (wholes, labels):
        np.testing.assert_array_equal(found.time_us_G, wanted.time_us_G)
        np.testing.assert_array_equal(found.previous_us_G, wanted.previous_us_G)
        np.testing.assert_allclose(found.before_GD, wanted.before_GD, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.at_GD, wanted.at_GD, rtol=1e-9, atol=1e-12)
    return len(slots[0])


async def test_payments_at_once_at_one_merchant_leave_what_they_leave_in_turn(
    service: Service,
) -> None:
    """With labels that mature meanwhile; and so does the erasure of one of their accounts."""
    accounts = 4

    async def pay(merchant: str, account: int, day: int) -> float:
        """How many payments the merchant had before, at a half-life of 30 days."""
        name = f"{merchant}-{account}"
        at = day + account / 10
        [row] = await scored(service, paid(f"{name}-{day}", at, account=name, merchant=merchant))
        if DELAY_DAYS + 1 < day < 12:
            assert feature(service, row, "merchant_frauds_30d") > 0.5
        return float(np.expm1(feature(service, row, "merchant_count_30d")))

    for day in range(12):
        first, *_ = [await pay("turn", account, day) for account in range(accounts)]
        seen = await asyncio.gather(*(pay("once", account, day) for account in range(accounts)))
        # All of earlier days, in whatever slots, which have become a little older.
        assert min(seen) > 0.99 * first - 1e-6
        if day == 0:
            for name in ("turn-1", "once-1"):
                await label(service, f"{name}-0", account=name)
    is_sqlite = service.part(Database).is_sqlite
    assert await assert_same_entity(service, "once", "turn") == (1 if is_sqlite else accounts)
    for name in ("turn-1", "once-1", "turn-2", "once-2"):
        await service.part(ErasureService).erase(TENANT, name)
    assert await assert_same_entity(service, "once", "turn") == 1
    assert (await slots_of(service, "once"))[0].slots == 1
    # And on they go.
    await asyncio.gather(*(pay("once", account, 20) for account in (0, 3)))
    for account in (0, 3):
        await pay("turn", account, 20)
    await assert_same_entity(service, "once", "turn")


async def test_a_label_is_folded_by_whoever_has_the_first_slot(service: Service) -> None:
    """Another sees it, and leaves it to be folded."""
    if service.part(Database).is_sqlite:
        pytest.skip("an entity has one slot")
    await scored(service, paid("fraud", 0))
    await label(service, "fraud")
    key = "merchant", "m"
    async with service.part(Database).write() as connection:
        [first] = (await entity_states.lock_entities(connection, TENANT, [key]))[key]
        await entity_states.save_entities(
            connection, [first._replace(slots=2), EntityState(TENANT, *key, slot=1, slots=2)]
        )
    async with service.part(Database).write() as connection:
        taken = await entity_states.take_slots(connection, TENANT, [key])
        assert taken[key].slot == 0
        assert await frauds_seen(service, "second", DELAY_DAYS + 1) > 0
    assert [row.label_state for row in await slots_of(service, "m")] == [first.label_state, None]
    assert await frauds_seen(service, "third", DELAY_DAYS + 1) > 0
    record, nothing = (row.label_state for row in await slots_of(service, "m"))
    assert (record != first.label_state, nothing) == (True, None)
    # One that is late, in either slot, sees what had matured, and leaves the record as it is.
    await scored(service, paid("later", 10))
    await label(service, "later", is_fraud=False)
    assert await frauds_seen(service, "fourth", DELAY_DAYS + 11) > 0
    record = (await slots_of(service, "m"))[0].label_state
    share = "merchant_fraud_share_30d"
    for is_taken in (False, True):
        async with service.part(Database).write() as connection:
            if is_taken:
                assert (await entity_states.take_slots(connection, TENANT, [key]))[key].slot == 0
            for name, day, expected in (("early", 0, 0), ("late", 5, 1)):
                late = paid(f"{name}-{is_taken}", DELAY_DAYS + day, account=name)
                [row] = await scored(service, late)
                assert feature(service, row, share) == expected
        assert (await slots_of(service, "m"))[0].label_state == record
