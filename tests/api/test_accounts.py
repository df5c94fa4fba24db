"""Labels over HTTP: what they change, what they leave alone, and how they are unlearned."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.api.callers import calling
from tests.api.requests import label, posted, problem_of
from tests.checkpoints import tiny_checkpoint

pytestmark = pytest.mark.anyio


async def probability(client: httpx.AsyncClient, body: dict[str, Any]) -> float:
    answer = await client.post("/v1/transactions", json=body)
    assert answer.status_code == 200
    found: float = answer.json()["probability"]
    return found


async def labelled(client: httpx.AsyncClient, *labels: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/v1/accounts/alice/labels", json={"labels": labels})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def used(adaptation: dict[str, Any]) -> dict[str, Any]:
    """What scores the account, without how it came to be."""
    return {name: adaptation[name] for name in ("used", "labels", "revision")}


def unadapted(revision: int) -> dict[str, Any]:
    """The adaptation of an account without labels."""
    return {"used": "insufficient_labels", "labels": 0, "revision": revision}


async def test_a_fraud_label_raises_the_next_score_of_that_account_only(
    client: httpx.AsyncClient,
) -> None:
    alice = await probability(client, posted("t-1"))
    bob = await probability(client, posted("t-2", account_id="bob"))
    done = await labelled(client, label("t-1"))
    [effect] = done["labelled"]
    assert effect["transaction_id"] == "t-1"
    assert effect["before"]["probability"] == alice
    assert effect["after"]["probability"] == await probability(client, posted("t-3"))
    assert effect["after"]["probability"] > alice
    assert await probability(client, posted("t-4", account_id="bob")) == bob


async def test_a_legitimate_label_lowers_what_a_fraud_label_raises(
    client: httpx.AsyncClient,
) -> None:
    before = await probability(client, posted("t-1"))
    await labelled(client, label("t-1", "legitimate"))
    assert await probability(client, posted("t-2")) < before


async def test_an_answer_has_the_state_of_the_account(client: httpx.AsyncClient) -> None:
    for n in range(3):
        await probability(client, posted(f"t-{n}"))
    done = await labelled(client, label("t-0"), label("t-1", "legitimate"))
    assert [effect["transaction_id"] for effect in done["labelled"]] == ["t-0", "t-1"]
    assert {effect["transaction_id"] for effect in done["recent"]} == {"t-0", "t-1", "t-2"}
    assert used(done["adaptation"]) == {"used": "adapted", "labels": 2, "revision": 1}
    assert (done["stored"], done["unchanged"]) == (2, 0)
    assert (await client.get("/v1/accounts/alice")).json() == {
        "account_id": "alice",
        "revision": 1,
        "transactions": 3,
        "labels": {"fraud": 1, "legitimate": 1},
    }


async def test_the_same_labels_again_change_nothing(client: httpx.AsyncClient) -> None:
    await probability(client, posted("t-1"))
    first = await labelled(client, label("t-1"))
    again = await labelled(client, label("t-1"), label("t-1"))
    assert (again["stored"], again["unchanged"], again["revision"]) == (0, 1, 1)
    after = first["labelled"][0]["after"]["probability"]
    assert again["labelled"][0]["before"]["probability"] == after
    assert again["labelled"][0]["after"]["probability"] == after


async def test_a_changed_label_is_a_new_revision_that_equals_a_first_one(
    client: httpx.AsyncClient,
) -> None:
    await probability(client, posted("t-1"))
    first = await labelled(client, label("t-1", "legitimate"))
    await labelled(client, label("t-1", "fraud"))
    back = await labelled(client, label("t-1", "legitimate"))
    assert (back["revision"], back["labels"]) == (3, {"fraud": 0, "legitimate": 1})
    after = [answer["labelled"][0]["after"] for answer in (first, back)]
    assert after[0] == after[1]
    assert first["adaptation"]["adapter"] == back["adaptation"]["adapter"]


async def test_whole_transactions_are_scored_and_stored_before_they_are_labelled(
    client: httpx.AsyncClient,
) -> None:
    whole = [
        {"transaction": posted("t-2", occurred_at="2026-01-31T13:00:00Z"), "label": "fraud"},
        {"transaction": posted("t-1"), "label": "legitimate"},
    ]
    done = await labelled(client, *whole)
    assert (done["stored"], done["transactions"]) == (2, 2)
    stored = (await client.get("/v1/transactions/t-2")).json()
    assert stored["label"] == "fraud"
    assert stored["score"]["adaptation"] == unadapted(0)
    assert stored["score"]["probability"] == done["labelled"][0]["before"]["probability"]
    assert (await labelled(client, *whole))["unchanged"] == 2


async def test_whole_transactions_leave_the_states_that_scoring_them_leaves(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    bodies = [posted(f"t-{n}", occurred_at=f"2026-01-31T1{n}:00:00Z") for n in range(4)]
    for body in bodies:
        await probability(stranger, body)
    await labelled(client, *({"transaction": body, "label": "fraud"} for body in reversed(bodies)))
    for name in ("t-0", "t-1", "t-2", "t-3"):
        own, theirs = [(await c.get(f"/v1/transactions/{name}")).json() for c in (client, stranger)]
        assert own["score"]["probability"] == theirs["score"]["probability"]


async def test_a_label_of_an_unknown_transaction_stores_nothing(client: httpx.AsyncClient) -> None:
    await probability(client, posted("t-1"))
    whole = {"transaction": posted("t-2"), "label": "fraud"}
    labels = [label("t-1"), whole, label("missing")]
    refused = await client.post("/v1/accounts/alice/labels", json={"labels": labels})
    assert problem_of(refused) == (404, "transaction_not_found")
    assert "'missing'" in refused.json()["detail"]
    assert (await client.get("/v1/accounts/alice")).json()["revision"] == 0
    assert (await client.get("/v1/transactions/t-1")).json()["label"] is None
    assert (await client.get("/v1/transactions/t-2")).status_code == 404


async def test_a_transaction_of_another_account_is_refused(client: httpx.AsyncClient) -> None:
    await probability(client, posted("t-1", account_id="bob"))
    for item in (label("t-1"), {"transaction": posted("t-9", account_id="bob"), "label": "fraud"}):
        refused = await client.post("/v1/accounts/alice/labels", json={"labels": [item]})
        assert problem_of(refused) == (422, "transaction_of_another_account")


async def test_a_whole_transaction_with_other_content_is_a_conflict(
    client: httpx.AsyncClient,
) -> None:
    await probability(client, posted("t-1"))
    changed = {"transaction": posted("t-1", amount=1), "label": "fraud"}
    refused = await client.post("/v1/accounts/alice/labels", json={"labels": [changed]})
    assert problem_of(refused) == (409, "transaction_conflict")
    assert (await client.get("/v1/accounts/alice")).json()["revision"] == 0


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ([], "labels"),
        ([{"transaction_id": "t-1"}], "labels[0].label"),
        ([{"transaction_id": "t-1", "label": "maybe"}], "labels[0].label"),
        ([{"transaction_id": "t-1", "label": 1}], "labels[0].label"),
        ([{"label": "fraud"}], "labels[0]"),
        ([{"transaction": None, "label": "fraud"}], "labels[0].transaction"),
        ([{"transaction": posted(amount=-1), "label": "fraud"}], "labels[0].transaction.amount"),
        ([{"transaction_id": "t", "transaction": posted(), "label": "fraud"}], "labels[0]"),
        ([label("t-1"), label("t-1", "legitimate")], "labels[1].label"),
        (
            [{"transaction": posted(amount=n), "label": "fraud"} for n in (1, 2)],
            "labels[1]",
        ),
        ([label(f"t-{n}") for n in range(1001)], "labels"),
    ],
    ids=lambda part: repr(part)[:40],
)
async def test_an_invalid_label_is_refused_by_name(
    edge: httpx.AsyncClient, labels: list[Any], field: str
) -> None:
    refused = await edge.post("/v1/accounts/alice/labels", json={"labels": labels})
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == field


async def test_a_deleted_label_is_unlearned_to_the_bit(client: httpx.AsyncClient) -> None:
    for name in ("t-1", "t-2"):
        await probability(client, posted(name))
    alone = await labelled(client, label("t-1"))
    once = await probability(client, posted("t-3"))
    await labelled(client, label("t-2", "legitimate"))
    assert await probability(client, posted("t-4")) != once
    answer = (await client.delete("/v1/transactions/t-2/label")).json()
    assert used(answer["adaptation"]) == {"used": "adapted", "labels": 1, "revision": 3}
    assert answer["adaptation"]["adapter"] == alone["adaptation"]["adapter"]
    assert (await client.get("/v1/accounts/alice")).json()["labels"]["legitimate"] == 0
    assert await probability(client, posted("t-5")) == once


async def test_an_account_without_labels_left_is_back_at_the_base(
    client: httpx.AsyncClient,
) -> None:
    before = await probability(client, posted("t-1"))
    await labelled(client, label("t-1"))
    answer = await client.delete("/v1/transactions/t-1/label")
    assert used(answer.json()["adaptation"]) == unadapted(2)
    scored = (await client.post("/v1/transactions", json=posted("t-3"))).json()
    assert scored["adaptation"] == unadapted(2)
    assert await probability(client, posted("t-2")) == before


async def test_an_account_whose_labels_do_not_support_its_copy_is_scored_by_the_base(
    service_settings: Settings, tmp_path: Path
) -> None:
    """By a model that follows no copy, however many labels there are."""
    model = tiny_checkpoint(tmp_path, trust=-6.0, heed=0.0)
    async with calling(service_settings.model_copy(update={"model": model})) as client:
        before = await probability(client, posted("t-1"))
        done = await labelled(client, label("t-1"))
        assert used(done["adaptation"]) == {"used": "base", "labels": 1, "revision": 1}
        assert done["adaptation"]["weight"] == 0
        assert done["labelled"][0]["after"]["probability"] == before
        scored = (await client.post("/v1/transactions", json=posted("t-2"))).json()
        assert scored["adaptation"] == used(done["adaptation"])
        adapted = await client.post("/v1/accounts/alice/adapt")
        assert adapted.json()["adaptation"] == done["adaptation"]


async def test_deleting_what_is_not_there_is_not_found(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await probability(client, posted("t-1"))
    await labelled(client, label("t-1"))
    for caller, path in (
        (client, "/v1/transactions/t-2/label"),
        (stranger, "/v1/transactions/t-1/label"),
    ):
        assert problem_of(await caller.delete(path)) == (404, "label_not_found")
    assert (await client.get("/v1/accounts/alice")).json()["labels"]["fraud"] == 1


async def test_an_account_can_be_adapted_ahead_of_its_next_score(
    client: httpx.AsyncClient,
) -> None:
    await probability(client, posted("t-1"))
    done = (await client.post("/v1/accounts/alice/adapt")).json()
    assert used(done["adaptation"]) == unadapted(0)
    labels = await labelled(client, label("t-1"))
    done = (await client.post("/v1/accounts/alice/adapt")).json()
    assert done["adaptation"] == labels["adaptation"]
    assert done["recent"] == labels["recent"]


async def test_an_account_of_another_tenant_does_not_exist(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await probability(client, posted("t-1"))
    assert problem_of(await stranger.get("/v1/accounts/alice")) == (404, "account_not_found")
    refused = await stranger.post("/v1/accounts/alice/adapt")
    assert problem_of(refused) == (404, "account_not_found")
    refused = await stranger.post("/v1/accounts/alice/labels", json={"labels": [label("t-1")]})
    assert problem_of(refused) == (404, "transaction_not_found")


async def test_labels_of_one_tenant_leave_the_other_tenants_account_alone(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    theirs = await probability(stranger, posted("t-1"))
    await probability(client, posted("t-1"))
    await labelled(client, label("t-1"))
    assert await probability(stranger, posted("t-2")) == theirs


async def test_labels_posted_at_once_are_all_there(client: httpx.AsyncClient) -> None:
    names = [f"t-{n}" for n in range(20)]
    await client.post("/v1/transactions/batch", json={"transactions": [posted(n) for n in names]})
    await asyncio.gather(
        *(labelled(client, label(name)) for name in names),
        *(probability(client, posted(f"u-{n}")) for n in range(20)),
    )
    account = (await client.get("/v1/accounts/alice")).json()
    assert (account["revision"], account["labels"]["fraud"]) == (20, 20)
    together = [{"transaction": posted(n, account_id="bob"), "label": "fraud"} for n in ("x", "y")]
    done = await client.post("/v1/accounts/bob/labels", json={"labels": together})
    assert done.json()["labels"] == {"fraud": 2, "legitimate": 0}


async def test_an_id_may_hold_what_an_address_may_not(client: httpx.AsyncClient) -> None:
    odd = "a/b?c #ü"
    await probability(client, posted("t/1", account_id=odd))
    path = "/v1/accounts/a%2Fb%3Fc%20%23%C3%BC"
    done = await client.post(f"{path}/labels", json={"labels": [label("t/1")]})
    assert done.json()["account_id"] == odd
    assert (await client.get(path)).json()["labels"]["fraud"] == 1
    assert (await client.delete("/v1/transactions/t%2F1/label")).status_code == 200
