"""One label at a time, many at once, and their effects: answered at once, kept for ever."""

from typing import Any

import httpx
import pytest

from app.models.service import Models
from tests.api.callers import part_of
from tests.api.requests import label, posted, problem_of

pytestmark = pytest.mark.anyio

NAMES = ("fraud", "legitimate")


async def score(client: httpx.AsyncClient, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def put(client: httpx.AsyncClient, key: str, name: str = "fraud", **fields: Any) -> Any:
    answer = await client.put(f"/v1/transactions/{key}/label", json={"label": name, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def history(client: httpx.AsyncClient, key: str) -> Any:
    return (await client.get(f"/v1/transactions/{key}/label")).json()


async def test_a_label_answers_with_its_effect_on_its_own_and_on_recent_transactions(
    client: httpx.AsyncClient,
) -> None:
    before = {
        payment["transaction_id"]: payment
        for payment in await score(client, posted("a"), posted("b"))
    }
    done = await put(client, "a")
    assert (done["account_id"], done["label"], done["changed"]) == ("alice", "fraud", True)
    [own] = done["labelled"]
    assert own["before"]["probability"] == before["a"]["probability"]
    assert own["after"]["probability"] > own["before"]["probability"]
    recent = {effect["transaction_id"]: effect for effect in done["recent"]}
    assert recent.keys() == {"a", "b"}
    [again] = await score(client, posted("c"))
    assert recent["b"]["after"]["probability"] == again["probability"]
    made = done["adaptation"]
    assert (made["used"], made["labels"], made["revision"], made["steps"]) == ("adapted", 1, 1, 5)
    assert made["loss_after"] < made["loss_before"]
    assert made["drift"] > 0
    assert 0 < made["weight"] <= 1


async def test_the_copy_that_a_label_made_scores_next_without_being_made_again(
    client: httpx.AsyncClient,
) -> None:
    await score(client, posted("a"), posted("b"))
    scorer, made = part_of(client, Models).default, []
    scorer.adapt = made.append
    done = await put(client, "a")
    recent = {effect["transaction_id"]: effect["after"] for effect in done["recent"]}
    [again] = await score(client, posted("c"))
    assert made == []
    assert again["adaptation"] == {"used": "adapted", "labels": 1, "revision": 1}
    assert again["probability"] == recent["b"]["probability"]
    # One that is refused leaves none: the revision that it would have made never was.
    refused = await client.post(
        "/v1/accounts/alice/labels", json={"labels": [label("b"), label("nothing")]}
    )
    assert refused.status_code == 404
    assert (await score(client, posted("d")))[0]["adaptation"]["revision"] == 1
    assert made == []


async def test_who_labelled_when_how_and_why_is_kept_with_every_change(
    client: httpx.AsyncClient,
) -> None:
    await score(client, posted("a"))
    await put(client, "a", analyst="mia", note="Called.\nNot hers.", source="customer")
    await put(
        client, "a", "legitimate", labelled_at="2026-02-03T10:00:00+01:00", source="chargeback"
    )
    await client.delete("/v1/transactions/a/label")
    kept = await history(client, "a")
    assert (kept["label"], kept["account_id"]) == (None, "alice")
    assert [entry["label"] for entry in kept["history"]] == ["fraud", "legitimate", None]
    assert [entry["revision"] for entry in kept["history"]] == [1, 2, 3]
    first, second, _ = kept["history"]
    assert (first["analyst"], first["note"]) == ("mia", "Called.\nNot hers.")
    assert (first["source"], second["source"]) == ("customer", "chargeback")
    assert second["labelled_at"] == "2026-02-03T09:00:00.000000Z"
    assert second["recorded_at"] > second["labelled_at"]


async def test_every_change_of_an_accounts_labels_is_listed_the_newest_first(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    for n in range(3):
        await client.post("/v1/transactions", json=posted(f"t-{n}"))
    many = [label("t-0"), label("t-1", "legitimate")]
    await client.post("/v1/accounts/alice/labels", json={"labels": many})
    await client.put("/v1/transactions/t-2/label", json={"label": "fraud", "note": "Called."})
    await client.delete("/v1/transactions/t-0/label")
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {"limit": "3"}
    while True:
        page = (await client.get("/v1/accounts/alice/revisions", params=query)).json()
        found += page["data"]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert [
        (change["revision"], change["transaction_id"], change["label"]) for change in found
    ] == [
        (3, "t-0", None),
        (2, "t-2", "fraud"),
        (1, "t-1", "legitimate"),
        (1, "t-0", "fraud"),
    ]
    history = (await client.get("/v1/transactions/t-2/label")).json()["history"]
    assert [{**history[0], "transaction_id": "t-2"}] == found[1:2]
    refused = await stranger.get("/v1/accounts/alice/revisions")
    assert problem_of(refused) == (404, "account_not_found")


async def test_the_same_label_again_changes_nothing_and_a_new_note_is_kept(
    client: httpx.AsyncClient,
) -> None:
    await score(client, posted("a"))
    first = await put(client, "a")
    again = await put(client, "a")
    assert again["changed"] is False
    assert again["adaptation"] == first["adaptation"]
    noted = await put(client, "a", note="Sure.")
    assert noted["changed"] is True
    assert noted["adaptation"]["adapter"] == first["adaptation"]["adapter"]
    assert len((await history(client, "a"))["history"]) == 2


async def test_a_removed_label_leaves_the_copy_of_an_account_that_never_had_it(
    client: httpx.AsyncClient,
) -> None:
    await score(client, *(posted(f"t-{n}", amount=40 + 60 * n) for n in range(4)))
    await put(client, "t-0", "legitimate")
    without = (await put(client, "t-2"))["adaptation"]["adapter"]
    adapters = [(await put(client, "t-1", name))["adaptation"]["adapter"] for name in NAMES]
    assert len({without, *adapters}) == 3
    removed = (await client.delete("/v1/transactions/t-1/label")).json()
    assert removed["adaptation"]["adapter"] == without


async def test_each_label_of_a_batch_has_its_own_outcome(client: httpx.AsyncClient) -> None:
    await score(client, posted("a"), posted("b", account_id="bob"), posted("c"))
    await put(client, "c")
    labels = [label("a"), label("missing"), label("b", "legitimate"), label("c")]
    answer = await client.post("/v1/labels", json={"labels": labels})
    a, missing, b, c = answer.json()["results"]
    assert [result["transaction_id"] for result in (a, missing, b, c)] == ["a", "missing", "b", "c"]
    assert missing["error"]["code"] == "transaction_not_found"
    assert (a["changed"], b["changed"], c["changed"]) == (True, True, False)
    assert (a["account_id"], b["account_id"]) == ("alice", "bob")
    assert a["adaptation"]["labels"] == 2
    assert b["after"]["probability"] < b["before"]["probability"]
    assert (await client.get("/v1/accounts/alice")).json()["revision"] == 2


async def test_an_invalid_label_of_a_batch_leaves_its_neighbours_theirs(
    client: httpx.AsyncClient,
) -> None:
    await score(client, posted("a"), posted("b", account_id="bob"))
    labels = [
        label("a"),
        label("b", "perhaps"),
        label("a", "legitimate"),
        {"label": "fraud"},
        "b",
        label("b"),
    ]
    answer = await client.post("/v1/labels", json={"labels": labels})
    assert answer.status_code == 200
    a, *refused, b = answer.json()["results"]
    assert (a["changed"], b["changed"]) == (True, True)
    assert [refusal["transaction_id"] for refusal in refused] == ["b", "a", None, None]
    assert {refusal["error"]["code"] for refusal in refused} == {"validation_failed"}
    assert [(await history(client, key))["label"] for key in "ab"] == ["fraud", "fraud"]
    alone = await client.post("/v1/labels", json={"labels": [7]})
    assert [result["error"]["code"] for result in alone.json()["results"]] == ["validation_failed"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "label"),
        ({"label": "maybe"}, "label"),
        ({"label": "fraud", "source": "hearsay"}, "source"),
        ({"label": "fraud", "labelled_at": "yesterday"}, "labelled_at"),
        ({"label": "fraud", "analyst": ""}, "analyst"),
        ({"label": "fraud", "note": "\x00"}, "note"),
        ({"label": "fraud", "colour": "red"}, "colour"),
    ],
    ids=repr,
)
async def test_an_invalid_label_is_refused_by_the_name_of_its_field(
    edge: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    refused = await edge.put("/v1/transactions/a/label", json=body)
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == field


async def test_another_tenant_can_neither_label_nor_read_nor_remove(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await score(client, posted("a"))
    await put(client, "a")
    refused = await stranger.put("/v1/transactions/a/label", json={"label": "legitimate"})
    assert problem_of(refused) == (404, "transaction_not_found")
    for answer in (
        await stranger.get("/v1/transactions/a/label"),
        await stranger.delete("/v1/transactions/a/label"),
    ):
        assert answer.status_code == 404
    outcome = (await stranger.post("/v1/labels", json={"labels": [label("a")]})).json()
    assert outcome["results"][0]["error"]["code"] == "transaction_not_found"
    assert (await history(client, "a"))["label"] == "fraud"


async def test_a_preview_is_what_then_happens_and_stores_nothing(
    client: httpx.AsyncClient,
) -> None:
    bodies = [posted(f"t-{n}", amount=50 + 100 * n) for n in range(30)]
    await score(client, *bodies)
    await put(client, "t-0", "legitimate")
    preview_body = {"dry_run": True, "labels": [label("t-28"), label("t-29"), label("t-0")]}
    preview = (await client.post("/v1/accounts/alice/adapt", json=preview_body)).json()
    assert preview["dry_run"] is True
    assert (await client.get("/v1/accounts/alice")).json()["revision"] == 1
    assert (await history(client, "t-28"))["history"] == []
    done = await client.post("/v1/accounts/alice/labels", json={"labels": preview_body["labels"]})
    happened = done.json()
    assert preview["adaptation"]["adapter"] == happened["adaptation"]["adapter"]
    for name in ("labelled", "recent", "alerts", "guard", "raised", "cleared"):
        assert preview[name] == happened[name], name
    assert len(preview["recent"]) == 20
    assert preview["guard"]


async def test_labels_are_only_tried_out_by_adapting(edge: httpx.AsyncClient) -> None:
    refused = await edge.post("/v1/accounts/alice/adapt", json={"labels": [label("a")]})
    assert problem_of(refused) == (422, "validation_failed")
    twice = {"dry_run": True, "labels": [label("a"), label("a")]}
    refused = await edge.post("/v1/accounts/alice/adapt", json=twice)
    assert refused.json()["errors"][0]["field"] == "labels[1]"


async def test_a_preview_needs_transactions_of_its_account(client: httpx.AsyncClient) -> None:
    await score(client, posted("a"), posted("b", account_id="bob"))
    for key, expected in (
        ("missing", (404, "transaction_not_found")),
        ("b", (422, "transaction_of_another_account")),
    ):
        body = {"dry_run": True, "labels": [label(key)]}
        refused = await client.post("/v1/accounts/alice/adapt", json=body)
        assert problem_of(refused) == expected
