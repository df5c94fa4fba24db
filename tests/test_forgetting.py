"""Whatever happened before, an account can be erased, and what is left never knew it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as some
from sqlalchemy import select, text

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.audit.store import EntryFilters, listed_entries
from app.db.connection import Connection
from app.db.database import Database
from app.db.patience import Patience
from app.db.schema import (
    accounts,
    entities,
    forgettings,
    label_entities,
    label_events,
    labels,
    links,
    metadata,
    reviews,
    transactions,
)
from app.erasures.records import Erasure
from app.erasures.service import STEP_PAYMENTS, ErasureService
from app.erasures.store import listed_erasures
from app.explanations.replay import Replay
from app.history.importing import Importer, Past
from app.http.parts import Service
from app.labels import store as label_store
from app.labels.allowance import Allowance
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.learner.checkpoint import Checkpoint
from app.learner.features import FeatureSet
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.states import States
from app.learner.transaction import DAY_US, Transaction, Type
from app.ops.garbage import spare_requests
from app.reviews import store as review_store
from app.reviews.records import Review
from app.scoring.errors import TransactionNotFound
from app.scoring.pipeline import Pipeline, Posted
from app.scoring.records import Scored
from app.settings import Settings
from app.tenants.pruning import prune
from app.times import now_us
from app.web.service import running
from benchmarks.routes import Filler
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly
from tests.servers import Server, made_key, server_process

ACCOUNTS, MERCHANTS, DEVICES = ("a", "b", "c"), ("m", "n"), ("d", "e", "f")
CURRENCIES = ("EUR", "JPY", "KWD")
RATES = Rates(reference="EUR", per_unit={"JPY": 0.006})
# Sums of the same terms in another order.
ROUNDING = {"rel": 1e-6, "abs": 1e-6}
FIRST_DAY = 20_000
# Of the account `heavy`, and at the merchant `big`.
PAYMENTS = 1_500
# For a step of a test that comes at once, or never.
WAIT_SECONDS = 60
_tenants = count(1)


class Pay(NamedTuple):
    """A payment, so many days after the one before it, or late."""

    account: str
    merchant: str | None
    gap_days: float
    device: str | None = None
    type: Type = "payment"
    late_days: float = 0.0


class Label(NamedTuple):
    """A label of the n-th payment of an account, known so many days after now."""

    account: str
    n: int
    is_fraud: bool
    known_days: float


class Remove(NamedTuple):
    """The removal of the label of the n-th payment of an account."""

    account: str
    n: int


class RollBack(NamedTuple):
    """The way back of an account to where it was after its n-th change."""

    account: str
    n: int


class Import(NamedTuple):
    """A file of payments, each with its label and when that was known, in days after it."""

    rows: list[tuple[Pay, bool | None, float]]


Step = Pay | Label | Remove | RollBack | Import

_account = some.sampled_from(ACCOUNTS)
_place = some.integers(0, 5)
_pay = some.builds(
    Pay,
    _account,
    some.sampled_from((*MERCHANTS, "m", None)),
    some.sampled_from((0.5, 5.0, 20.0)),
    some.sampled_from((*DEVICES, None)),
    some.sampled_from(("payment", "payment", "refund")),
    some.sampled_from((0.0, 0.0, 0.0, 7.0, 40.0)),
)
DELAYS = some.sampled_from((-30.0, -1.0, 0.0, 10.0))
_label = some.builds(Label, _account, _place, some.booleans(), DELAYS)
_file = some.lists(
    some.tuples(_pay, some.sampled_from((True, False, None)), some.sampled_from((0.0, 3.0, 40.0))),
    min_size=1,
    max_size=4,
)
_steps = some.lists(
    some.one_of(
        _pay,
        _label,
        _label,
        some.builds(Remove, _account, _place),
        some.builds(RollBack, _account, _place),
        some.builds(Import, _file),
    ),
    min_size=8,
    max_size=24,
)


class World:
    """A tenant, and what happened there."""

    def __init__(self, service: Service, without: Sequence[str] = ()) -> None:
        self.service = service
        self.tenant = f"world-{next(_tenants)}"
        self._without = without
        self._now_us = FIRST_DAY * DAY_US
        self._payments: dict[str, list[str]] = {key: [] for key in ACCOUNTS}
        self._revisions: dict[str, list[int]] = {key: [0] for key in ACCOUNTS}
        self._labelled: set[str] = set()

    async def live(self, steps: Sequence[Step]) -> None:
        for number, step in enumerate(steps):
            await self._take(number, step)

    async def _take(self, number: int, step: Step) -> None:
        if isinstance(step, Pay):
            if payment := self._payment(str(number), step):
                await self.service.part(Pipeline).score([Posted(self.tenant, payment)])
        elif isinstance(step, Import):
            await self._import(number, step)
        elif step.account not in self._without:
            await self._change(step)

    def _payment(self, name: str, pay: Pay) -> Transaction | None:
        """The payment, and the time goes on whether it is made or not."""
        self._now_us += round(pay.gap_days * DAY_US)
        if pay.account in self._without:
            return None
        self._payments[pay.account].append(name)
        at_us = self._now_us - round(pay.late_days * DAY_US)
        amount, currency = Decimal(10 + len(name)), CURRENCIES[ACCOUNTS.index(pay.account)]
        return Transaction(
            name,
            pay.account,
            at_us,
            amount,
            currency,
            pay.merchant,
            device_id=pay.device,
            type=pay.type,
        )

    async def _import(self, number: int, step: Import) -> None:
        file = []
        for n, (pay, is_fraud, known_days) in enumerate(step.rows):
            if payment := self._payment(f"{number}-{n}", pay):
                known_at_us = payment.occurred_at_us + round(known_days * DAY_US)
                file.append(Past(payment, is_fraud, known_at_us))
                if is_fraud is not None:
                    self._labelled.add(payment.transaction_id)
        if file:
            service = self.service
            importer = Importer(service.part(Database), service.part(Pipeline), Patience(print))
            await importer.add(self.tenant, file)

    async def _change(self, step: Label | Remove | RollBack) -> None:
        labelling, payments = self.service.part(Labelling), self._payments[step.account]
        if isinstance(step, RollBack):
            revisions = self._revisions[step.account]
            if payments:
                revision = revisions[step.n % len(revisions)]
                await labelling.roll_back(self.tenant, step.account, revision)
                await self._note(step.account)
            return
        if not payments:
            return
        key = payments[step.n % len(payments)]
        if isinstance(step, Label):
            known_us = self._now_us + round(step.known_days * DAY_US)
            await labelling.put(self.tenant, Verdict(key, step.is_fraud, labelled_at_us=known_us))
        else:
            async with self.service.part(Database).read() as connection:
                found = await label_store.labels_of(connection, self.tenant, [key])
            if not found:
                return
            await labelling.remove(self.tenant, key)
        await self._note(step.account)

    async def _note(self, account_id: str) -> None:
        async with self.service.part(Database).read() as connection:
            account = await account_store.account(connection, self.tenant, account_id)
        assert account is not None
        self._revisions[account_id].append(account.revision)

    async def erase(self, account_id: str) -> None:
        async with self.service.part(Database).read() as connection:
            account = await account_store.account(connection, self.tenant, account_id)
        if account is not None:
            await self.service.part(ErasureService).erase(self.tenant, account_id)

    async def left_of(self, account_id: str) -> int:
        """How many rows there are of an account."""
        rows = 0
        async with self.service.part(Database).read() as connection:
            for table in (accounts, transactions, labels, label_events, reviews, links):
                query = select(table.c.tenant).where(
                    table.c.tenant == self.tenant, table.c.account_id == account_id
                )
                rows += len((await connection.execute(query)).all())
        return rows

    async def summary(self) -> dict[str, Any]:
        """What is known of labels and entities, and what the next payments show of them."""
        found: dict[str, Any] = {}
        async with self.service.part(Database).read() as connection:
            for key, support in (
                await label_store.supports(connection, self.tenant, ACCOUNTS)
            ).items():
                found[key] = [
                    (row.transaction_id, row.is_fraud, self._of_labels(row.features))
                    for row in support
                ]
            for table, names in (
                (links, ("kind", "entity_id", "account_id", "first_use_us")),
                (label_entities, ("transaction_id", "kind", "entity_id")),
            ):
                query = select(*(table.c[name] for name in names)).where(
                    table.c.tenant == self.tenant
                )
                found[table.name] = sorted(map(tuple, (await connection.execute(query)).all()))
            query = select(entities.c.kind, entities.c.entity_id, entities.c.state).where(
                entities.c.tenant == self.tenant
            )
            states = (await connection.execute(query)).all()
        features = self.service.part(Pipeline).features
        for kind, entity_id, state in states:
            sums = States.from_bytes([state], features.entity_sums)
            found[kind, entity_id] = [
                *(sums.time_us_G - FIRST_DAY * DAY_US).tolist(),
                *(sums.previous_us_G - FIRST_DAY * DAY_US).tolist(),
                *sums.before_GD[0].tolist(),
                *sums.at_GD[0].tolist(),
            ]
        at_us = self._now_us + 60 * DAY_US
        for name, named in (
            *((merchant, {"merchant_id": merchant}) for merchant in MERCHANTS),
            *((device, {"device_id": device}) for device in DEVICES),
        ):
            probe = Transaction(name, f"new-{name}", at_us, Decimal(7), "EUR", **named)
            [row] = await self.service.part(Pipeline).score([Posted(self.tenant, probe)])
            assert isinstance(row, Scored)
            found[name] = np.frombuffer(row.features, "<f4").tolist()
        return found

    def _of_labels(self, features: bytes) -> list[float]:
        values_F = np.frombuffer(features, "<f4").tolist()
        names = self.service.part(Pipeline).features.names
        return [
            value
            for name, value in zip(names, values_F, strict=True)
            if name.startswith(("merchant_fraud", "device_fraud"))
        ]


class Started(NamedTuple):
    """A service, and the loop that it runs in."""

    service: Service
    runner: asyncio.Runner


@pytest.fixture(scope="module")
def started(
    shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    model = tiny_checkpoint(tmp_path_factory.mktemp("model"), rates=RATES)
    with asyncio.Runner() as runner:
        opening = running(
            Settings(
                database_url=shared_database_url,
                model=model,
                device="cpu",
                bank_bytes=1 << 20,
                labels_per_account=100_000,
            )
        )
        service = runner.run(opening.__aenter__())
        yield Started(service, runner)
        runner.run(opening.__aexit__(None, None, None))


async def lived_and_erased(
    service: Service, steps: Sequence[Step], erased: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known where accounts were erased, and where they never were."""
    real, other = World(service), World(service, without=erased)
    await real.live(steps)
    for account_id in erased:
        await real.erase(account_id)
        assert await real.left_of(account_id) == 0
    await other.live(steps)
    return await real.summary(), await other.summary()


def assert_alike(own: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert own.keys() == theirs.keys()
    for key, found in own.items():
        if isinstance(found[0] if found else None, float | int):
            assert found == pytest.approx(theirs[key], **ROUNDING), key
        else:
            assert found == theirs[key], key


# To make a failure smaller would take minutes.
@settings(max_examples=15, phases=[Phase.reuse, Phase.generate])
@given(_steps, some.permutations(ACCOUNTS), some.integers(1, 3))
def test_whatever_happened_an_erased_account_never_was(
    started: Started, steps: list[Step], order: list[str], how_many: int
) -> None:
    service, runner = started
    own, theirs = runner.run(lived_and_erased(service, steps, order[:how_many]))
    assert_alike(own, theirs)


@settings(max_examples=10, phases=[Phase.reuse, Phase.generate])
@given(_steps, some.permutations(ACCOUNTS), some.integers(0, 2), some.lists(some.integers(0, 200)))
def test_pruned_payments_change_nothing_and_their_account_can_be_erased(
    started: Started, steps: list[Step], order: list[str], how_many: int, days: list[int]
) -> None:
    service, runner = started
    erased = order[:how_many]

    async def live() -> tuple[dict[str, Any], dict[str, Any]]:
        real, other = World(service), World(service, without=erased)
        await real.live(steps)
        for day in days:
            # Once more after others, and before again.
            await pruned(real, day)
        for account_id in erased:
            await real.erase(account_id)
            assert await real.left_of(account_id) == 0
        await other.live(steps)
        return await real.summary(), await other.summary()

    own, theirs = runner.run(live())
    assert_alike(own, theirs)


async def pruned(world: World, day: int) -> int:
    """Prune what occurred so many days after the first, or before; how many payments."""
    features = world.service.part(Pipeline).features
    keep_days = now_us() // DAY_US - FIRST_DAY - day
    database, patience = world.service.part(Database), Patience(print)
    return await prune(database, features, world.tenant, keep_days, lambda gone: None, patience)


def test_pruning_leaves_labelled_payments_and_those_that_wait(started: Started) -> None:
    service, runner = started
    # The second was labelled once, the third waits for a review.
    steps: list[Step] = [Pay("a", "m", 1.0), Pay("a", "m", 1.0), Pay("a", "m", 1.0)]
    steps += [Pay("b", "m", 1.0), Label("a", 1, True, -1.0), Remove("a", 1), Pay("a", "n", 50.0)]

    async def live() -> None:
        world = World(service)
        await world.live(steps)
        database = service.part(Database)
        async with database.write() as connection:
            waiting = Review(world.tenant, "2", "a", 0, 0, 0.5, 50.0, "open", 0)
            await review_store.open_reviews(connection, [waiting])
        assert await pruned(world, 20) == 2
        assert await pruned(world, 20) == 0
        query = select(transactions.c.transaction_id).where(transactions.c.tenant == world.tenant)
        async with database.read() as connection:
            left = {key for (key,) in (await connection.execute(query)).all()}
            account = await account_store.require_account(connection, world.tenant, "a")
        assert left == {"1", "2", "6"}
        assert account.transactions == 3
        with pytest.raises(TransactionNotFound, match=r"no transaction '0'.* have been pruned"):
            await service.part(Replay).replay(world.tenant, "0")
        with pytest.raises(TransactionNotFound):
            await service.part(Labelling).put(world.tenant, Verdict("0", True))

    runner.run(live())


def test_a_payment_that_is_pruned_while_it_is_labelled_gets_no_label(started: Started) -> None:
    service, runner = started

    async def live() -> None:
        world = World(service)
        await world.live([Pay("a", "m", 1.0), Pay("a", "m", 50.0)])

        async def overtake() -> None:
            await pruned(world, 20)

        overtaken = Overtaken(service.part(Settings).database_url, overtake)
        labelling = Labelling(overtaken, service.part(Pipeline), Allowance(None))
        with pytest.raises(TransactionNotFound):
            await labelling.put(world.tenant, Verdict("0", True))
        await overtaken.close()
        async with service.part(Database).read() as connection:
            assert not await label_store.labels_of(connection, world.tenant, ["0"])

    runner.run(live())


def test_an_account_whose_own_labels_saw_each_other_can_be_erased(started: Started) -> None:
    steps = [Pay("a", "m", 0.0), Label("a", 0, True, 5.0), Pay("a", "m", 30.0)]
    steps += [Label("a", 1, False, 0.0), Pay("b", "m", 1.0), Label("b", 0, True, 0.0)]
    service, runner = started
    own, theirs = runner.run(lived_and_erased(service, steps, ["a"]))
    assert_alike(own, theirs)


def test_who_saw_a_label_before_it_came_to_mature_later_forgets_it_too(started: Started) -> None:
    steps = [Pay("b", "m", 0.0), Label("b", 0, True, -1.0), Pay("a", "m", 20.0)]
    steps += [Label("a", 0, True, 0.0), Label("b", 0, False, 10.0)]
    service, runner = started
    own, theirs = runner.run(lived_and_erased(service, steps, ["b"]))
    assert_alike(own, theirs)


def test_who_came_late_saw_no_label_that_matured_after_it_for_another_that_did(
    started: Started,
) -> None:
    # The label of c matures after that of b: with it, b's late payment must not see b's own.
    steps: list[Step] = [
        Import([(Pay("c", "m", 20.0), True, 40.0), (Pay("b", "m", 13.0), True, 3.0)])
    ]
    steps += [Pay("b", "m", 27.5), Import([(Pay("b", "m", 0.5, late_days=40.0), False, 0.0)])]
    service, runner = started
    own, theirs = runner.run(lived_and_erased(service, steps, ["c"]))
    assert_alike(own, theirs)


def test_what_came_back_by_a_rollback_is_seen_as_before(started: Started) -> None:
    # Of a, whose second payment saw b's label and its own first one; this was removed, and is back.
    steps: list[Step] = [
        Import([(Pay("b", "n", 5.0, "f"), False, 0.0), (Pay("a", "n", 5.0), True, 3.0)]),
        Import([(Pay("a", "n", 20.0, "f"), False, 3.0)]),
        Label("a", 1, True, -1.0),
        Remove("a", 0),
        RollBack("a", 1),
    ]
    service, runner = started
    own, theirs = runner.run(lived_and_erased(service, steps, ["b"]))
    assert_alike(own, theirs)


@pytest.mark.parametrize(
    "detour",
    [
        [Remove("b", 0)],
        [Label("b", 0, False, -1.0)],
        [Remove("b", 0), Label("b", 0, True, 0.0)],
    ],
)
def test_others_learn_what_they_would_have_had_nobody_been_on_the_way(
    started: Started, detour: list[Step]
) -> None:
    """Of b's label c has a payment before, one on the way, and one after; a was never there."""
    steps: list[Step] = [Pay("b", "m", 0.0, "d"), Label("b", 0, True, -1.0)]
    way = [Pay("c", "m", 20.0, "d"), Label("c", 0, True, 0.0)]
    way += [*detour, Pay("c", "m", 1.0, "d"), Label("c", 1, False, 0.0), RollBack("b", 1)]
    way += [Pay("c", "m", 1.0, "d"), Label("c", 2, True, 0.0)]
    nothing = RollBack("a", 0)
    straight = [nothing if step in (*detour, RollBack("b", 1)) else step for step in way]
    service, runner = started

    async def lived(life: list[Step]) -> dict[str, Any]:
        world = World(service)
        await world.live([*steps, *life])
        return await world.summary()

    assert_alike(runner.run(lived(way)), runner.run(lived(straight)))


class Pauses(NamedTuple):
    """How many seconds something took, and for how long the event loop stood still at most.

    `computing` is that of the processor's time: a machine that is busy with others adds none.
    """

    seconds: float
    longest: float
    computing: float


async def paused(computing: Awaitable[object]) -> Pauses:
    task, begun, longest, longest_computing = (
        asyncio.ensure_future(computing),
        time.perf_counter(),
        0.0,
        0.0,
    )
    while not task.done():
        before, computed = time.perf_counter(), time.process_time()
        await asyncio.sleep(0.001)
        pause = time.perf_counter() - before
        longest = max(longest, pause)
        longest_computing = max(longest_computing, min(pause, time.process_time() - computed))
    await task
    return Pauses(time.perf_counter() - begun, longest, longest_computing)


def filler_of(service: Service, tenant: str) -> Filler:
    return Filler(service.part(Database), service.part(Pipeline).features, "tiny", tenant)


async def keep_statistics(database: Database) -> None:
    """Let PostgreSQL know of no tenant that comes from here on, as among many large ones."""
    async with database.write() as connection:
        for table in () if database.is_sqlite else metadata.tables:
            await connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = false)"))
            await connection.execute(text(f"ANALYZE {table}"))


@pytest.mark.alone
def test_four_times_the_labels_are_forgotten_in_about_four_times_as_long(
    started: Started,
) -> None:
    # As a server does: to search all that the tests have imported for garbage takes .2 s.
    spare_requests()
    service, runner = started
    seconds: dict[int, float] = {}
    runner.run(filler_of(service, "known").fill(100))
    runner.run(keep_statistics(service.part(Database)))
    for size in (2_000, 8_000):
        tenant = f"world-{next(_tenants)}"
        filler = filler_of(service, tenant)
        runner.run(filler.fill(size))
        labelling, took = service.part(Labelling), 0.0
        for forgetting in (
            labelling.remove(tenant, "p-7"),
            labelling.roll_back(tenant, "a-3", 1),
            labelling.roll_back(tenant, "heavy", 1),
            service.part(ErasureService).erase(tenant, "a-4"),
        ):
            pauses = runner.run(paused(forgetting))
            took += pauses.seconds
            assert pauses.computing < 0.1
            assert pauses.longest < 1
        seconds[size] = took
    # Each label by each other would take sixteen times as long.
    assert seconds[8_000] < 8 * seconds[2_000]


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sqlite_looks_at_each_label_once_to_see_what_others_have_to_forget(
    database: Database,
) -> None:
    features, hundreds = FeatureSet(DatasetSpec.load("simulated")), dict[int, int]()
    for labelled in (25, 100):
        await Filler(database, features, "tiny", f"of-{labelled}").fill(10 * labelled)
        ids = [f"h-{10 * n}" for n in range(labelled)]
        taken = count(1)

        def step(taken: Iterator[int] = taken) -> int:
            next(taken)
            return 0

        async with database.read() as connection:
            raw: Any = await connection.run_sync(lambda sync: sync.connection.driver_connection)
            raw.set_progress_handler(step, 100)
            found = await label_store.first_maturities(connection, f"of-{labelled}", ids)
            raw.set_progress_handler(None, 0)
        assert found
        hundreds[labelled] = next(taken)
    # Each id by each other would take sixteen times as many instructions.
    assert hundreds[100] < 8 * hundreds[25]


async def done_so_far(database: Database, tenant: str) -> list[int]:
    """How many labels of others are corrected and how many payments are gone, of each forgetting
    that has not ended."""
    done = forgettings.c.corrected + forgettings.c.erased_transactions
    query = select(done).where(forgettings.c.tenant == tenant)
    async with database.read() as connection:
        return list((await connection.execute(query)).scalars())


async def learned_from(database: Database, tenant: str) -> dict[str, bytes | None]:
    """The features that labels have been given since they were scored, by transaction."""
    query = select(labels.c.transaction_id, labels.c.features).where(labels.c.tenant == tenant)
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return {row.transaction_id: row.features for row in rows}


async def kill_amid(process: Server, database: Database, key: str, path: str) -> int:
    """Ask to forget, and kill the service in the midst; how much was done by then."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=60) as client:
        request = asyncio.ensure_future(client.delete(path))
        while not any(await done_so_far(database, "killed")):
            assert not request.done()
            await asyncio.sleep(0.001)
        process.kill()
        with suppress(httpx.TransportError):
            await request
    [done] = await done_so_far(database, "killed")
    return done


@mainly("sqlite")
@pytest.mark.anyio
async def test_what_a_kill_leaves_half_forgotten_is_forgotten_at_the_next_start(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, now = tiny_checkpoint(tmp_path / "model"), now_us()
    # The same payments at the same times, so that what is learned has the same bits.
    monkeypatch.setattr("benchmarks.routes.now_us", lambda: now)
    database = Database(database_url)
    features = Checkpoint.load(model).features
    for tenant in ("killed", "calm"):
        await Filler(database, features, "tiny", tenant).fill(PAYMENTS)
    keys = {name: await made_key(database_url, name) for name in ("killed", "calm")}
    with server_process(database_url, model) as process:
        for path in ("/v1/transactions/p-20/label", "/v1/accounts/a-4", "/v1/accounts/heavy"):
            before = await learned_from(database, "calm")
            some = await kill_amid(process, database, keys["killed"], path)
            await asyncio.to_thread(process.start)
            assert await done_so_far(database, "killed") == []
            headers = {"Authorization": f"Bearer {keys['calm']}"}
            async with httpx.AsyncClient(
                base_url=process.url, headers=headers, timeout=60
            ) as client:
                assert (await client.delete(path)).is_success
            after = await learned_from(database, "calm")
            assert await learned_from(database, "killed") == after
            changed = sum(after[key] != before[key] for key in after)
            # Nobody else has learned from the labels of the last one.
            assert 0 < some < (changed or PAYMENTS)
    async with database.read() as connection:
        kept = [(await listed_erasures(connection, name, None, 3)).rows for name in keys]
    killed, calm = [[json.loads(row.content) for row in rows] for rows in kept]
    assert len(killed) == 2
    for own, other in zip(killed, calm, strict=True):
        for fact in ("erased", "labels_corrected", "merchants_rebuilt"):
            assert own[fact] == other[fact]
    assert killed[0]["erased"]["transactions"] == PAYMENTS
    await database.close()


class Slow(Database):
    """A database on which one of the transactions that are run has to wait."""

    def __init__(self, url: str, waiting: int) -> None:
        super().__init__(url)
        self._left = waiting
        self._reached, self.open = asyncio.Event(), asyncio.Event()

    async def run(
        self,
        change: Callable[[Connection], Awaitable[Any]],
        aside: bool = False,
        is_shared: bool = False,
    ) -> Any:
        self._left -= 1
        if not self._left:
            self._reached.set()
            await self.open.wait()
        return await super().run(change, aside, is_shared)

    async def until_reached(self) -> None:
        """Until that transaction waits; raises TimeoutError where it never comes."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self._reached.wait()


async def known_of_merchant(database: Database, tenant: str) -> tuple[Any, ...]:
    """What labels at the merchant learn from, and what its record of them is."""
    query = select(entities.c.label_state).where(
        entities.c.tenant == tenant, entities.c.entity_id == "big"
    )
    async with database.read() as connection:
        [state] = (await connection.execute(query)).scalars()
    assert state is not None
    return await learned_from(database, tenant), state


# The removal itself, while its account's labels stay as they are, and the first step of those who
# have yet to forget.
@pytest.mark.parametrize(("waiting", "meanwhile"), [(1, "p-180"), (2, "p-5")])
def test_who_comes_late_does_not_bring_back_what_was_forgotten_meanwhile(
    started: Started, monkeypatch: pytest.MonkeyPatch, waiting: int, meanwhile: str
) -> None:
    service, runner = started
    now = now_us()
    monkeypatch.setattr("benchmarks.routes.now_us", lambda: now)

    async def removed(is_in_turn: bool) -> tuple[Any, ...]:
        tenant, labelling = f"world-{next(_tenants)}", service.part(Labelling)
        await filler_of(service, tenant).fill(200)
        # The merchant has a record from then on.
        await labelling.remove(tenant, "p-0")
        slow = Slow(service.part(Settings).database_url, 0 if is_in_turn else waiting)
        late = Labelling(slow, service.part(Pipeline), Allowance(None))
        removal = asyncio.ensure_future(late.remove(tenant, "p-2"))
        await (removal if is_in_turn else slow.until_reached())
        await labelling.remove(tenant, meanwhile)
        slow.open.set()
        await removal
        await slow.close()
        return await known_of_merchant(service.part(Database), tenant)

    assert runner.run(removed(False)) == runner.run(removed(True))


def test_what_others_have_forgotten_makes_the_history_no_longer(started: Started) -> None:
    service, runner = started
    tenant, labels_there = f"world-{next(_tenants)}", 200
    runner.run(filler_of(service, tenant).fill(labels_there))

    async def changes_after(removals: int) -> int:
        for n in range(removals):
            await service.part(Labelling).remove(tenant, f"p-{n}")
        async with service.part(Database).read() as connection:
            corrected = await label_store.corrected_before(
                connection, tenant, [f"p-{n}" for n in range(labels_there)]
            )
            assert len(corrected) > 100 or not removals
            return len(await label_store.label_changes(connection, tenant, [("merchant", "big")]))

    # The labels, and then each removal.
    assert runner.run(changes_after(0)) == labels_there
    assert runner.run(changes_after(3)) == labels_there + 3


def test_an_account_half_erased_is_scored_as_before_and_what_came_meanwhile_is_erased(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, runner = started
    now = now_us()
    monkeypatch.setattr("benchmarks.routes.now_us", lambda: now)
    pipeline, database = service.part(Pipeline), service.part(Database)

    async def scored(tenant: str) -> Scored:
        payment = Transaction("x", "heavy", now, Decimal(9_000), "EUR", "m-1")
        [row] = await pipeline.score([Posted(tenant, payment)])
        assert isinstance(row, Scored)
        return row

    async def live() -> None:
        whole, half = World(service), World(service)
        for world in (whole, half):
            await filler_of(service, world.tenant).fill(PAYMENTS)
            # Without labels in both: of the copy nothing is left when the erasure begins.
            await service.part(Labelling).roll_back(world.tenant, "heavy", 0)
        slow = Slow(service.part(Settings).database_url, 4)
        erasure = asyncio.ensure_future(ErasureService(slow, pipeline).erase(half.tenant, "heavy"))
        await slow.until_reached()
        [gone] = await done_so_far(database, half.tenant)
        own, other = await scored(half.tenant), await scored(whole.tenant)
        slow.open.set()
        certificate = json.loads((await erasure).content)
        await slow.close()
        assert 0 < gone < PAYMENTS
        assert own.reasons
        assert own.features == other.features
        assert (own.probability, own.reasons) == (other.probability, other.reasons)
        assert certificate["erased"]["transactions"] == PAYMENTS + 1
        assert await half.left_of("heavy") == 0

    runner.run(live())


async def erased(world: World, erasing: Awaitable[Erasure]) -> dict[str, Any]:
    """The certificate of an erasure, which is the tenant's only one, and in its log once."""
    row = await erasing
    async with world.service.part(Database).read() as connection:
        [kept] = (await listed_erasures(connection, world.tenant, None, 5)).rows
        filters = EntryFilters(action="account.erased")
        logged = (await listed_entries(connection, world.tenant, filters, None, 5)).rows
    assert kept == row
    assert [entry.subject for entry in logged] == [row.id]
    assert await done_so_far(world.service.part(Database), world.tenant) == []
    certificate: dict[str, Any] = json.loads(row.content)["erased"]
    return certificate


@pytest.mark.parametrize("is_labelled", [False, True])
def test_payments_that_come_into_a_half_erased_account_are_erased_and_take_no_label(
    started: Started, is_labelled: bool
) -> None:
    service, runner = started
    pipeline, labelling = service.part(Pipeline), service.part(Labelling)

    async def live() -> None:
        world = World(service)
        await filler_of(service, world.tenant).fill(PAYMENTS)
        slow = Slow(service.part(Settings).database_url, 4)
        erasure = asyncio.ensure_future(ErasureService(slow, pipeline).erase(world.tenant, "heavy"))
        await slow.until_reached()
        [gone] = await done_so_far(service.part(Database), world.tenant)
        assert 0 < gone < PAYMENTS
        # Older than what is gone already, at a device of its own; and one that is gone, once more.
        for name, days in (("older", 900), ("h-0", 800)):
            at_us = now_us() - days * DAY_US
            late = Transaction(name, "heavy", at_us, Decimal(9), "EUR", "m-1", device_id="own")
            [row] = await pipeline.score([Posted(world.tenant, late)])
            assert isinstance(row, Scored)
            if is_labelled:
                # It would have to be forgotten anew, for as long as labels come.
                [answer] = await labelling.store_each(world.tenant, [Verdict(name, True)])
                assert isinstance(answer, TransactionNotFound)
                with pytest.raises(AccountNotFound):
                    await labelling.roll_back(world.tenant, "heavy", 1)
        slow.open.set()
        counts = await erased(world, erasure)
        await slow.close()
        assert counts["transactions"] == PAYMENTS + 2
        assert counts["labels"] == PAYMENTS // 10
        assert await world.left_of("heavy") == 0
        query = select(entities.c.entity_id).where(
            entities.c.tenant == world.tenant, entities.c.entity_id == "own"
        )
        async with service.part(Database).read() as connection:
            assert (await connection.execute(query)).first() is None

    runner.run(live())


class Counting(Slow):
    """One that also counts the transactions that are begun."""

    begun = 0

    def write(self, aside: bool = False) -> AbstractAsyncContextManager[Connection]:
        self.begun += 1
        return super().write(aside)


class Overtaken(Database):
    """A database on which something happens before each of the transactions that are run."""

    def __init__(self, url: str, act: Callable[[], Awaitable[None]]) -> None:
        super().__init__(url)
        self._act = act
        self.count = 0

    async def run(
        self,
        change: Callable[[Connection], Awaitable[Any]],
        aside: bool = False,
        is_shared: bool = False,
    ) -> Any:
        self.count += 1
        await self._act()
        return await super().run(change, aside, is_shared)


def test_an_account_that_pays_faster_than_it_is_erased_is_erased(started: Started) -> None:
    service, runner = started
    pipeline = service.part(Pipeline)
    size, left = 3 * STEP_PAYMENTS, 20

    async def live() -> None:
        world = World(service)
        numbers = count()

        async def pay() -> None:
            nonlocal left
            left -= 1
            if left > 0:
                some = [next(numbers) for _ in range(size // 2)]
                rows = [
                    Transaction(f"p-{n}", "payer", now_us(), Decimal(9), "EUR", "m-1") for n in some
                ]
                await pipeline.score([Posted(world.tenant, row) for row in rows])

        await pay()
        await pay()
        overtaken = Overtaken(service.part(Settings).database_url, pay)
        counts = await erased(
            world, ErasureService(overtaken, pipeline).erase(world.tenant, "payer")
        )
        # To unlearn; as many steps as there were payments for at the first of them, and two more;
        # and the account.
        assert overtaken.count <= 1 + (2 * size // STEP_PAYMENTS + 2) + 1
        await overtaken.close()
        assert counts["transactions"] == next(numbers)
        assert await world.left_of("payer") == 0

    runner.run(live())


def test_an_account_that_pays_meanwhile_is_erased_at_the_first_attempt(started: Started) -> None:
    service, runner = started
    pipeline = service.part(Pipeline)

    async def live() -> None:
        world = World(service)

        async def pay(name: str) -> None:
            payment = Transaction(
                name, "payer", now_us(), Decimal(9), "EUR", "m-1", device_id=f"at-{name}"
            )
            [row] = await pipeline.score([Posted(world.tenant, payment)])
            assert isinstance(row, Scored)

        await pay("before")
        # The third of its transactions is the last one, of what was planned before.
        slow = Counting(service.part(Settings).database_url, 3)
        erasure = asyncio.ensure_future(ErasureService(slow, pipeline).erase(world.tenant, "payer"))
        await slow.until_reached()
        await pay("meanwhile")
        begun = slow.begun
        slow.open.set()
        counts = await erased(world, erasure)
        # Who pays all the time would make any number of attempts vain.
        assert slow.begun == begun + 1
        await slow.close()
        assert counts["transactions"] == 2
        assert await world.left_of("payer") == 0
        query = select(entities.c.entity_id).where(entities.c.tenant == world.tenant)
        async with service.part(Database).read() as connection:
            assert (await connection.execute(query)).all() == []

    runner.run(live())


# The first one stops before it has begun, while others have yet to forget, while payments go, and
# nowhere.
@pytest.mark.parametrize("waiting", [1, 2, 4, 0])
def test_of_two_erasures_of_an_account_at_once_one_certificate_is_kept(
    started: Started, waiting: int
) -> None:
    service, runner = started
    pipeline, erasing = service.part(Pipeline), service.part(ErasureService)

    async def live() -> None:
        world = World(service)
        await filler_of(service, world.tenant).fill(PAYMENTS)
        slow = Slow(service.part(Settings).database_url, waiting)
        first = asyncio.ensure_future(ErasureService(slow, pipeline).erase(world.tenant, "heavy"))
        if waiting:
            await slow.until_reached()
        counts = await erased(world, erasing.erase(world.tenant, "heavy"))
        assert counts["transactions"] == PAYMENTS
        assert counts["labels"] == PAYMENTS // 10
        if waiting > 1:
            # Somebody new under the same id is nobody's to erase.
            payment = Transaction("new", "heavy", now_us(), Decimal(9), "EUR", "m-1")
            await pipeline.score([Posted(world.tenant, payment)])
        slow.open.set()
        if waiting == 1:
            with pytest.raises(AccountNotFound):
                await first
        else:
            assert await erased(world, first) == counts
        await slow.close()
        # Its payment, its account and its link to the merchant.
        assert await world.left_of("heavy") == (3 if waiting > 1 else 0)

    runner.run(live())
