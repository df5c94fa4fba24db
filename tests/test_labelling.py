"""A label is computed before anything is locked, and only stored while that still holds."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from app.accounts import store as account_store
from app.db.database import Database
from app.erasures.service import ErasureService
from app.errors import Problem
from app.http.parts import Service
from app.labels import store as label_store
from app.labels.allowance import Allowance
from app.labels.changes import LabelChange, RemoveLabel, RollBack, SetLabels, Verdict
from app.labels.plans import Planner
from app.labels.service import Labelled, Labelling
from app.learner.adaptation import SUPPORT_LIMIT
from app.ops.turns import Turns, owner
from app.reviews import store as review_store
from app.reviews.records import Review
from app.scoring.by_account import ACCOUNTS_AT_ONCE, each_by_account
from app.scoring.errors import TransactionNotFound
from app.scoring.pipeline import Pipeline
from app.scoring.records import Scored
from tests.test_pipeline import TENANT, label, paid, scored, service, wide_checkpoint

__all__ = ["service", "wide_checkpoint"]

pytestmark = pytest.mark.anyio

Meanwhile = Callable[[], Awaitable[object]]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Meanwhile]:
    """What is done, once each, while the next labels are computed."""
    waiting: list[Meanwhile] = []
    judge = Planner.judge

    async def judged(*args: Any, **named: Any) -> Any:
        while waiting:
            async with asyncio.timeout(60):
                await waiting.pop()()
        return await judge(*args, **named)

    monkeypatch.setattr(Planner, "judge", judged)
    return waiting


def evidence(service: Service, features: bytes) -> list[float]:
    """What stored features say of a merchant's labels."""
    values = np.frombuffer(features, "<f4").tolist()
    names = service.part(Pipeline).features.names
    return [
        value
        for name, value in zip(names, values, strict=True)
        if name.startswith("merchant_fraud")
    ]


async def give(service: Service, name: str) -> Labelled:
    return await service.part(Labelling).store(TENANT, "a", [Verdict(name, True)])


def review_of(row: Scored) -> Review:
    return Review(TENANT, row.transaction_id, "a", row.occurred_at_us, 0, 0.5, 50.0, "open", 0)


async def test_payments_of_its_account_and_merchant_are_scored_while_a_label_is_computed(
    service: Service, meanwhile: list[Meanwhile]
) -> None:
    await scored(service, paid("t", 0), paid("u", 1))
    meanwhile.append(lambda: scored(service, paid("v", 2)))
    done = await give(service, "t")
    assert meanwhile == []
    assert (done.account.revision, done.account.transactions) == (1, 3)


async def test_labels_that_came_meanwhile_are_learned_from_too(
    service: Service, meanwhile: list[Meanwhile]
) -> None:
    await scored(service, paid("t", 0), paid("u", 1))
    meanwhile.append(lambda: label(service, "u"))
    done = await give(service, "t")
    assert (done.account.revision, done.account.fraud_labels) == (2, 2)
    assert done.change.copy.labels == 2
    now = await service.part(Labelling).adapt(TENANT, "a")
    assert now.change.copy == done.change.copy


async def test_a_review_that_was_opened_meanwhile_is_judged_by_the_new_copy(
    service: Service, meanwhile: list[Meanwhile]
) -> None:
    await scored(service, paid("t", 0))

    async def flagged() -> None:
        [row] = await scored(service, paid("u", 1))

        await service.part(Database).run(
            lambda connection: review_store.open_reviews(connection, [review_of(row)])
        )

    meanwhile.append(flagged)
    done = await give(service, "t")
    assert [effect.transaction_id for effect in done.change.alerts] == ["u"]
    async with service.part(Database).read() as connection:
        queued = await review_store.reviews_of(connection, TENANT, ["u"])
    assert queued["u"].revision == done.account.revision == 1


async def test_a_label_removed_from_its_merchant_meanwhile_is_not_learned_from(
    service: Service, meanwhile: list[Meanwhile]
) -> None:
    await scored(service, paid("other", 0, account="b"))
    await label(service, "other", account="b")
    # Its features know of the other's label by then.
    [row] = await scored(service, paid("t", 20))
    meanwhile.append(lambda: service.part(Labelling).remove(TENANT, "other"))
    await give(service, "t")
    async with service.part(Database).read() as connection:
        [learned] = (await label_store.supports(connection, TENANT, ["a"]))["a"]
    assert learned.features != row.features


@pytest.mark.parametrize("is_erased", [False, True], ids=["removed", "erased"])
async def test_another_label_forgotten_at_its_merchant_meanwhile_is_not_learned_from(
    service: Service, meanwhile: list[Meanwhile], is_erased: bool
) -> None:
    labelling = service.part(Labelling)

    async def forgotten() -> None:
        if is_erased:
            database, pipeline = service.part(Database), service.part(Pipeline)
            await ErasureService(database, pipeline).erase(TENANT, "c")
        else:
            await labelling.remove(TENANT, "second")

    await scored(service, paid("first", 0, account="b"), paid("second", 0, account="c"))
    await label(service, "first", account="b")
    await label(service, "second", account="c")
    # Their features know of both labels by then; one is removed before they have their own.
    await scored(service, paid("t", 20), paid("u", 20, account="d"))
    await labelling.remove(TENANT, "first")
    meanwhile.append(forgotten)
    await give(service, "t")
    assert meanwhile == []
    await label(service, "u", account="d")
    async with service.part(Database).read() as connection:
        learned = await label_store.supports(connection, TENANT, ["a", "d"])
    late, in_turn = [evidence(service, rows[0].features) for rows in (learned["a"], learned["d"])]
    assert late == in_turn


@pytest.mark.parametrize("is_meanwhile", [False, True], ids=["before", "between"])
async def test_labels_of_many_accounts_learn_from_what_is_left_at_their_merchant(
    service: Service, meanwhile: list[Meanwhile], is_meanwhile: bool
) -> None:
    """Together as in turn, also where another label is forgotten between two of them."""
    labelling = service.part(Labelling)
    await scored(service, paid("first", 0, account="b"), paid("second", 0, account="c"))
    await label(service, "first", account="b")
    await label(service, "second", account="c")
    together = {"t": "d", "u": "e", "v": "f", "w": "g"}
    [seen, *_] = await scored(service, *(paid(key, 20, account=of) for key, of in together.items()))
    await scored(service, paid("later", 20, account="h"))
    await labelling.remove(TENANT, "first")
    if is_meanwhile:
        meanwhile.append(lambda: labelling.remove(TENANT, "second"))
    await labelling.store_each(TENANT, [Verdict(key, True) for key in together])
    assert meanwhile == []
    await label(service, "later", account="h")
    async with service.part(Database).read() as connection:
        learned = await label_store.supports(connection, TENANT, [*together.values(), "h"])
    *each, in_turn = [evidence(service, rows[0].features) for rows in learned.values()]
    assert each == [in_turn] * len(each)
    assert in_turn != evidence(service, seen.features)


async def test_an_account_erased_meanwhile_stays_erased(
    service: Service, meanwhile: list[Meanwhile]
) -> None:
    await scored(service, paid("t", 0))
    meanwhile.append(
        lambda: ErasureService(service.part(Database), service.part(Pipeline)).erase(TENANT, "a")
    )
    with pytest.raises(TransactionNotFound):
        await give(service, "t")
    async with service.part(Database).read() as connection:
        assert await account_store.account(connection, TENANT, "a") is None


async def test_a_plan_that_is_not_committed_says_what_its_change_does(service: Service) -> None:
    # Of either label more than a copy learns from, and pairs of one moment.
    names = [f"t-{n}" for n in range(3 * SUPPORT_LIMIT)]
    await scored(service, *(paid(name, n // 2) for n, name in enumerate(names)))
    labelling = service.part(Labelling)
    planner = Planner(service.part(Pipeline), Allowance(None))
    few = [Verdict(name, n % 3 == 0) for n, name in enumerate(names[-5:])]
    many = [Verdict(name, n % 2 == 0) for n, name in enumerate(names[:-5])]
    changed = [few[0]._replace(is_fraud=False), few[1], few[2]._replace(is_fraud=True)]
    changes: list[tuple[LabelChange, Callable[[], Awaitable[Labelled]]]] = [
        (SetLabels("a", verdicts), partial(labelling.store, TENANT, "a", verdicts))
        for verdicts in (few, many, changed)
    ]
    # The latest of its label: an older one comes into the copy in its place.
    changes += [(RemoveLabel(key), partial(labelling.remove, TENANT, key)) for key in names[-3:-1]]
    changes += [(RollBack("a", n), partial(labelling.roll_back, TENANT, "a", n)) for n in (2, 1, 4)]
    for change, apply in changes:
        async with service.part(Database).read() as connection:
            draft = await planner.draft(connection, TENANT, change)
        plan = await planner.judge(draft)
        if isinstance(change, SetLabels):
            preview = await labelling.preview(TENANT, "a", change.verdicts)
            assert preview.change == plan.change
        done = await apply()
        assert done.change == plan.change
        assert done.account.revision == draft.alteration.account.revision + 1
        # And that is the copy of the labels that are stored.
        assert (await labelling.adapt(TENANT, "a")).change.copy == done.change.copy


async def test_of_requests_about_many_accounts_few_are_under_way_tenants_in_turn(
    service: Service,
) -> None:
    database, turns = service.part(Database), Turns(ACCOUNTS_AT_ONCE)
    payments = [paid(f"t-{n}", n, account=f"a-{n}") for n in range(6)]
    await scored(service, *payments)
    items = {payment.transaction_id: None for payment in payments}
    served, at_once, most = list[str](), 0, 0

    async def store(account_id: str, group: dict[str, None]) -> dict[str, str | Problem]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.002)
        at_once -= 1
        served.append(owner.get())
        return dict.fromkeys(group, account_id)

    async def ask(name: str) -> None:
        owner.set(name)
        answers = await each_by_account(database, TENANT, items, store, turns)
        assert list(answers.values()) == [payment.account_id for payment in payments]

    crowd = [asyncio.create_task(ask("crowd")) for _ in range(8)]
    while not served:
        await asyncio.sleep(0.001)
    await ask("other")
    # It is not behind all of the crowd: between its turns there are few of others.
    assert len(served) < 6 * len(payments)
    await asyncio.gather(*crowd)
    assert most == ACCOUNTS_AT_ONCE


async def test_of_changes_that_are_tried_out_few_are_under_way_tenants_in_turn(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scored(service, *(paid(f"t-{n}", n) for n in range(6)))
    labelling, draft = service.part(Labelling), Planner.draft
    await labelling.store(TENANT, "a", [Verdict("t-5", True)])
    served, at_once, most = list[str](), 0, 0

    async def counted(*args: Any, **named: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return await draft(*args, **named)
        finally:
            at_once -= 1
            served.append(owner.get())

    monkeypatch.setattr(Planner, "draft", counted)

    async def ask(name: str, request: Callable[[], Awaitable[object]]) -> None:
        owner.set(name)
        await request()

    tried = partial(labelling.preview, TENANT, "a", [Verdict("t-1", True)])
    rolled = partial(labelling.preview_roll_back, TENANT, "a", 0)
    made = partial(labelling.adapt, TENANT, "a")
    crowd = [asyncio.create_task(ask("crowd", request)) for request in (tried, rolled, made) * 8]
    while not served:
        await asyncio.sleep(0.001)
    await ask("other", tried)
    assert served.index("other") < 12
    await asyncio.gather(*crowd)
    assert most == ACCOUNTS_AT_ONCE
