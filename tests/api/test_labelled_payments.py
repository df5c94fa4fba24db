"""Answers name the labelled payment that a score leans on, and show payments like it first."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.api.callers import calling, settings_of
from tests.api.requests import label, posted
from tests.api.test_labels import put, score
from tests.api.test_reasons import reasons
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly
from tests.servers import new_key, server

pytestmark = pytest.mark.anyio

FOUND_OUT = "2026-02-03T09:30:00Z"
GENERAL = "2 fraud labels and 1 legitimate label move all of this account's scores"
LIKE_FRAUD = {
    "transaction_id": "p-3",
    "label": "fraud",
    "labelled_at": "2026-02-03T09:30:00.000000Z",
    "in_common": ["merchant", "device", "channel", "country", "currency", "type"],
}
FRAUD_SENTENCE = (
    "like p-3, reported as fraud on 2026-02-03: same merchant, device, channel, country, currency "
    "and type"
)


@pytest.fixture(scope="session")
def checkpoint_by_likeness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint by which payments like a fraud are risky, and its copies are followed."""
    folder = tmp_path_factory.mktemp("models") / "likeness"
    return tiny_checkpoint(folder, likeness=20.0, heed=0.0)


@pytest.fixture
def settings(database_url: str, checkpoint_by_likeness: Path) -> Settings:
    return settings_of(database_url, checkpoint_by_likeness)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(settings) as client:
        # So that every score comes with its reasons, and no payment waits for a review.
        await thresholds(client, review=0.98, decline=0.99)
        yield client


async def thresholds(client: httpx.AsyncClient, review: float, decline: float) -> None:
    stated = await client.post("/v1/thresholds", json={"review": review, "decline": decline})
    assert stated.status_code == 200, stated.text


def payment(n: int, **changes: Any) -> dict[str, Any]:
    """A payment of a day of its own, at a merchant and of a category that no other has."""
    fields = {
        "amount": 80,
        "occurred_at": f"2026-01-{n:02}T14:00:00Z",
        "merchant_id": f"m-{n}",
        "merchant_category": f"c-{n}",
        **changes,
    }
    return posted(f"p-{n}", **fields)


HISTORY = [
    payment(1),
    payment(2, device_id="d-2", channel="branch", country="FR"),
    payment(3, merchant_id="stolen-goods", device_id="d-3"),
    payment(4, device_id="d-3"),
    payment(5),
    payment(6, merchant_id="bakery", channel="branch", country="FR"),
    payment(7, merchant_id="bakery", channel="branch", country="FR"),
    payment(8),
]


async def labelled_history(client: httpx.AsyncClient) -> None:
    """Eight payments, two of them frauds, one of them legitimate."""
    await score(client, *HISTORY)
    for key, name in (("p-3", "fraud"), ("p-4", "fraud"), ("p-6", "legitimate")):
        await put(client, key, name, labelled_at=FOUND_OUT)


def of_labels(found: list[dict[str, Any]]) -> dict[str, Any]:
    [reason] = [candidate for candidate in found if candidate["code"] == "labels"]
    return reason


def like_the_fraud(key: str, **changes: Any) -> dict[str, Any]:
    return posted(key, merchant_id="stolen-goods", device_id="d-3", **changes)


def like_the_bakery(key: str) -> dict[str, Any]:
    return posted(key, merchant_id="bakery", channel="branch", country="FR", amount=80)


def like_none(key: str) -> dict[str, Any]:
    return posted(key, merchant_id="elsewhere", channel="phone", country="US", amount=80)


async def test_a_reason_names_the_labelled_payment_and_what_is_the_same(
    client: httpx.AsyncClient,
) -> None:
    await labelled_history(client)
    await score(client, like_the_fraud("x"), like_the_bakery("y"), like_none("z"))
    raised = of_labels((await reasons(client, "x"))["reasons"])
    assert raised["share"] > 0.01
    assert raised["sentence"] == FRAUD_SENTENCE
    assert raised["labelled_payment"] == LIKE_FRAUD
    assert (raised["observed"], raised["usual"]) == ("2+1", None)
    lowered = of_labels((await reasons(client, "y"))["reasons"])
    assert lowered["share"] < -0.01
    assert lowered["sentence"] == (
        "like p-6, confirmed as legitimate on 2026-02-03: same merchant, channel, country, "
        "currency and type"
    )
    assert lowered["labelled_payment"]["transaction_id"] == "p-6"
    assert lowered["labelled_payment"]["label"] == "legitimate"
    general = of_labels((await reasons(client, "z"))["reasons"])
    assert general["sentence"] == GENERAL
    # No reason has a field that says nothing.
    whole = [reason for key in "xyz" for reason in (await reasons(client, key))["reasons"]]
    assert sum("labelled_payment" in reason for reason in whole) == 2


async def test_a_risky_score_names_the_payment_alone_in_a_batch_and_ever_after(
    settings: Settings, client: httpx.AsyncClient
) -> None:
    await thresholds(client, review=1e-8, decline=0.99)
    await labelled_history(client)
    alone = await client.post("/v1/transactions", json=like_the_fraud("alone"))
    batch = [like_the_fraud(f"b-{n}", account_id=("alice", "bob")[n % 2]) for n in range(12)]
    answers = [alone.json(), *await score(client, *batch)]
    of_alice = [answer for answer in answers if answer["account_id"] == "alice"]
    for answer in of_alice:
        reason = of_labels(answer["reasons"])
        assert (reason["sentence"], reason["labelled_payment"]) == (FRAUD_SENTENCE, LIKE_FRAUD)
    for answer in answers:
        if answer["account_id"] == "bob":
            assert "labels" not in [reason["code"] for reason in answer["reasons"]]
    # By another process, which has no copy yet and makes it of what is stored.
    async with calling(settings) as other:
        [cold] = await score(other, like_the_fraud("cold"))
        assert of_labels(cold["reasons"])["labelled_payment"] == LIKE_FRAUD
        of_alice.append(cold)
    # The same again, whatever labels come, go and change.
    await put(client, "alone", "fraud")
    await client.delete("/v1/transactions/p-3/label")
    await put(client, "p-4", "legitimate")
    for answer in of_alice:
        key = answer["transaction_id"]
        whole = (await reasons(client, key))["reasons"]
        assert answer["reasons"] == [reason for reason in whole if reason["share"] >= 0.01][:5]
        stored = (await client.get(f"/v1/transactions/{key}")).json()
        assert stored["score"]["reasons"] == answer["reasons"]
        replayed = await client.post(f"/v1/transactions/{key}/replay")
        assert replayed.json()["match"] is True
    # What is scored from now on leans on the labels as they are now.
    [later] = await score(client, like_the_fraud("later"))
    assert of_labels(later["reasons"])["labelled_payment"]["transaction_id"] == "alone"


async def test_the_time_of_a_label_is_the_stored_one_where_none_was_posted(
    client: httpx.AsyncClient,
) -> None:
    await thresholds(client, review=1e-8, decline=0.99)
    await score(client, *HISTORY)
    await put(client, "p-3")
    # By the copy that the label has left in the bank.
    [answer] = await score(client, like_the_fraud("x"))
    named = of_labels(answer["reasons"])["labelled_payment"]
    history = (await client.get("/v1/transactions/p-3/label")).json()["history"]
    assert named["labelled_at"] == history[0]["labelled_at"]
    assert of_labels((await reasons(client, "x"))["reasons"])["labelled_payment"] == named


async def test_a_label_that_was_replaced_by_newer_ones_is_not_named(
    client: httpx.AsyncClient,
) -> None:
    await score(client, *HISTORY)
    await put(client, "p-3", labelled_at=FOUND_OUT)
    newer = [
        posted(f"n-{n}", merchant_id=f"new-{n}", occurred_at=f"2026-01-20T10:{n:02}:00Z")
        for n in range(32)
    ]
    await score(client, *newer)
    labels = [label(f"n-{n}") for n in range(32)]
    done = await client.post("/v1/accounts/alice/labels", json={"labels": labels})
    assert done.json()["adaptation"]["labels"] == 32
    await score(client, like_the_fraud("x"))
    reason = of_labels((await reasons(client, "x"))["reasons"])
    assert reason["labelled_payment"]["transaction_id"] == "n-31"


@mainly("sqlite")
def test_a_server_that_was_started_again_names_the_same(
    database_url: str, checkpoint_by_likeness: Path
) -> None:
    headers = {"Authorization": f"Bearer {new_key(database_url)}"}
    answers = []
    for key in ("before", "after"):
        with (
            server(database_url, checkpoint_by_likeness) as url,
            httpx.Client(base_url=url, headers=headers, timeout=60) as caller,
        ):
            if key == "before":
                limits = {"review": 1e-8, "decline": 0.99}
                assert caller.post("/v1/thresholds", json=limits).is_success
                batch = {"transactions": HISTORY}
                assert caller.post("/v1/transactions/batch", json=batch).is_success
                fraud = {"label": "fraud", "labelled_at": FOUND_OUT}
                assert caller.put("/v1/transactions/p-3/label", json=fraud).is_success
            scored = caller.post("/v1/transactions", json=like_the_fraud(key, amount=80)).json()
            whole = caller.get("/v1/transactions/before/reasons").json()
            answers += [of_labels(scored["reasons"]), of_labels(whole["reasons"])]
    assert [answer["sentence"] for answer in answers] == [FRAUD_SENTENCE] * 4
    assert [answer["labelled_payment"] for answer in answers] == [LIKE_FRAUD] * 4


def ids(effects: list[dict[str, Any]]) -> list[str]:
    return [effect["transaction_id"] for effect in effects]


async def test_a_label_shows_payments_like_the_labelled_ones_first(
    client: httpx.AsyncClient,
) -> None:
    await score(client, *HISTORY)
    body = {"dry_run": True, "labels": [label("p-3"), label("p-6", "legitimate")]}
    preview = (await client.post("/v1/accounts/alice/adapt", json=body)).json()
    done = await client.post("/v1/accounts/alice/labels", json={"labels": body["labels"]})
    # p-7 has five fields in common with p-6, and p-4 five with p-3; the labelled ones are not
    # like each other. The others stay in their order, the newest first.
    expected = ["p-7", "p-4", "p-8", "p-6", "p-5", "p-3", "p-2", "p-1"]
    for answer in (preview, done.json()):
        assert ids(answer["recent"]) == expected
        # In the order of the request.
        assert ids(answer["labelled"]) == ["p-3", "p-6"]
        before = {effect["transaction_id"]: effect["before"] for effect in answer["recent"]}
        assert before["p-7"] != before["p-4"]
    removed = (await client.delete("/v1/transactions/p-3/label")).json()
    assert ids(removed["recent"]) == ["p-4", *(f"p-{n}" for n in (8, 7, 6, 5, 3, 2, 1))]
    # Nothing is labelled: as ever.
    adapted = (await client.post("/v1/accounts/alice/adapt", json={})).json()
    assert ids(adapted["recent"]) == [f"p-{n}" for n in range(8, 0, -1)]


async def test_alerts_and_earlier_payments_are_in_the_order_of_likeness_too(
    client: httpx.AsyncClient,
) -> None:
    day = "2026-01-10T10:{:02}:00Z"
    earlier = [
        posted(f"e-{n}", amount=80, merchant_id=f"q-{n}", occurred_at=day.format(n))
        for n in range(10)
    ]
    earlier[4]["merchant_id"] = "stolen-goods"
    await score(client, *earlier)
    between = [
        posted(f"r-{n}", amount=80, merchant_id=f"r-{n}", occurred_at=day.format(20 + n))
        for n in range(17)
    ]
    await score(client, *between)
    await thresholds(client, review=1e-8, decline=0.99)
    held = [
        like_the_fraud(f"h-{n}", occurred_at=f"2026-01-11T10:{n:02}:00Z", amount=100 - n)
        for n in range(3)
    ]
    held[0]["merchant_id"] = held[0]["device_id"] = "of-its-own"
    held[1]["device_id"] = "of-its-own"
    await score(client, *held)
    waiting = (await client.get("/v1/reviews")).json()["data"]
    assert {review["transaction_id"] for review in waiting} == {"h-0", "h-1", "h-2"}
    done = await put(client, "h-2")
    assert ids(done["alerts"])[0] == "h-1"
    assert ids(done["guard"])[:2] == ["e-4", "e-9"]
    assert len(done["guard"]) == 10
