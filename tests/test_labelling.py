"""A label is computed before anything is locked, and only stored while that still holds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.accounts import store as account_store
from app.db.database import Database
from app.erasures.service import Erasing
from app.labels import store as label_store
from app.labels.service import Labelled, Labelling, Verdict
from app.reviews import store as review_store
from app.reviews.records import Review
from app.scoring.errors import TransactionNotFound
from app.scoring.pipeline import Pipeline
from app.scoring.records import Scored
from app.web.service import Service
from tests.test_pipeline import TENANT, handbook_checkpoint, label, paid, scored, service

__all__ = ["handbook_checkpoint", "service"]

pytestmark = pytest.mark.anyio

Meanwhile = Callable[[], Awaitable[object]]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Meanwhile]:
    """What is done, once each, while the next labels are computed."""
    waiting: list[Meanwhile] = []
    judge = Labelling._judge

    async def judged(*args: Any) -> Any:
        while waiting:
            async with asyncio.timeout(5):
                await waiting.pop()()
        return await judge(*args)

    monkeypatch.setattr(Labelling, "_judge", judged)
    return waiting


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


async def test_an_account_erased_meanwhile_stays_erased(
    service: Service, meanwhile: list[Meanwhile]
) -> None:
    await scored(service, paid("t", 0))
    meanwhile.append(
        lambda: Erasing(service.part(Database), service.part(Pipeline)).erase(TENANT, "a")
    )
    with pytest.raises(TransactionNotFound):
        await give(service, "t")
    async with service.part(Database).read() as connection:
        assert await account_store.account(connection, TENANT, "a") is None
