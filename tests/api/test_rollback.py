"""Labels taken back to a revision: set, changed and removed ones, to the bit of the copy."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from app.db.database import Database
from app.db.schema import outbox
from app.labels.service import Labelling
from app.settings import Settings
from tests.api.callers import part_of
from tests.api.requests import label, posted, problem_of
from tests.api.test_labels import history, put, score

pytestmark = pytest.mark.anyio
# So long ago that its label has matured: evidence about the merchant at once.
LONG_AGO = "2025-11-01T10:00:00Z"
FOUND_OUT = "2025-11-09T10:00:00Z"


async def back(
    client: httpx.AsyncClient, revision: int, account: str = "alice", **fields: Any
) -> Any:
    body = {"revision": revision, **fields}
    answer = await client.post(f"/v1/accounts/{account}/rollback", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def adapter(client: httpx.AsyncClient, revision: int, account: str = "alice") -> Any:
    """The digest of the copy that a revision had."""
    answer = await client.get(f"/v1/accounts/{account}/revisions/{revision}")
    return answer.json()["adaptation"]["adapter"]


async def remove(client: httpx.AsyncClient, key: str) -> None:
    assert (await client.delete(f"/v1/transactions/{key}/label")).status_code == 200


async def poisoned(client: httpx.AsyncClient) -> None:
    """Two labels by revision 2; by revision 5 one is changed, one removed and one is new."""
    await score(client, *(posted(f"t-{n}", amount=40 + 60 * n) for n in range(6)))
    await put(client, "t-0", analyst="mia", note="Called.", source="customer", labelled_at=LONG_AGO)
    await put(client, "t-1", "legitimate")
    await put(client, "t-0", "legitimate")
    await remove(client, "t-1")
    await put(client, "t-2")


async def test_set_changed_and_removed_labels_are_what_they_were(
    client: httpx.AsyncClient,
) -> None:
    await poisoned(client)
    before = (await history(client, "t-0"))["history"][0]
    done = await back(client, 2)
    assert done["adaptation"]["adapter"] == await adapter(client, 2)
    assert (done["revision"], done["as_of"], done["dry_run"]) == (6, 2, False)
    assert done["labels"] == {"fraud": 1, "legitimate": 1}
    assert {effect["transaction_id"] for effect in done["labelled"]} == {"t-0", "t-1", "t-2"}
    labels = [(await history(client, f"t-{n}"))["label"] for n in range(3)]
    assert labels == ["fraud", "legitimate", None]
    now = (await history(client, "t-0"))["history"][-1]
    assert (now.pop("revision"), before.pop("revision")) == (6, 1)
    assert now.pop("recorded_at") > before.pop("recorded_at")
    assert now == before
    # The very next score comes from that copy, and what was learned meanwhile can be replayed.
    recent = {effect["transaction_id"]: effect["after"] for effect in done["recent"]}
    [again] = await score(client, posted("again", amount=400 - 60))
    assert again["probability"] == recent["t-5"]["probability"]
    assert await adapter(client, 6) == done["adaptation"]["adapter"]
    replayed = await client.post("/v1/transactions/again/replay")
    assert replayed.json()["match"] is True


async def test_a_dry_run_shows_what_will_happen_and_stores_nothing(
    client: httpx.AsyncClient,
) -> None:
    await poisoned(client)
    tried = await back(client, 2, dry_run=True)
    assert (tried["dry_run"], tried["revision"]) == (True, 5)
    assert (await client.get("/v1/accounts/alice")).json()["revision"] == 5
    done = await back(client, 2)
    assert tried["adaptation"]["adapter"] == done["adaptation"]["adapter"]
    for name in ("labelled", "recent", "alerts", "guard", "raised", "cleared"):
        assert tried[name] == done[name], name


async def test_every_revision_can_be_come_back_to_and_the_same_again_is_no_change(
    client: httpx.AsyncClient,
) -> None:
    await poisoned(client)
    for revision in (0, 5, 1, 4, 3, 2):
        done = await back(client, revision)
        assert done["adaptation"]["adapter"] == await adapter(client, revision)
        again = await back(client, revision)
        assert again["revision"] == done["revision"]
        assert again["labelled"] == []
        assert again["adaptation"] == done["adaptation"]
    assert (await back(client, 0))["adaptation"]["used"] == "insufficient_labels"


async def test_the_audit_log_keeps_who_rolled_back_and_each_label_of_it(
    client: httpx.AsyncClient,
) -> None:
    await poisoned(client)
    await back(client, 2)
    entries = (await client.get("/v1/audit-log?account_id=alice")).json()["data"][:4]
    assert {entry["actor"] for entry in entries} == {client.headers["Authorization"].split("_")[1]}
    whole, *labels = entries
    assert (whole["action"], whole["subject"]) == ("account.rolled_back", "alice")
    assert (whole["before"], whole["after"]) == ({"revision": 5}, {"revision": 6, "as_of": 2})
    assert {label["action"] for label in labels} == {"label.rolled_back"}
    names = {
        label["subject"]: [side and side["label"] for side in (label["before"], label["after"])]
        for label in labels
    }
    assert names == {
        "t-0": ["legitimate", "fraud"],
        "t-1": [None, "legitimate"],
        "t-2": ["fraud", None],
    }
    assert next(label for label in labels if label["subject"] == "t-0")["after"]["analyst"] == "mia"


@pytest.fixture(scope="module")
async def survivor(shared: httpx.AsyncClient) -> httpx.AsyncClient:
    """A caller whose account is poisoned."""
    await poisoned(shared)
    return shared


@pytest.mark.parametrize(
    ("account", "revision", "expected"),
    [
        ("alice", 6, (404, "revision_not_found")),
        ("alice", 2**63 - 1, (404, "revision_not_found")),
        ("bob", 0, (404, "account_not_found")),
        ("alice", -1, (422, "validation_failed")),
        ("alice", "1", (422, "validation_failed")),
        ("alice", None, (422, "validation_failed")),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_never_was_is_not_found(
    survivor: httpx.AsyncClient, account: str, revision: Any, expected: Any, dry_run: bool
) -> None:
    body = {"revision": revision, "dry_run": dry_run}
    refused = await survivor.post(f"/v1/accounts/{account}/rollback", json=body)
    assert problem_of(refused) == expected
    assert (await survivor.get("/v1/accounts/alice")).json()["revision"] == 5


async def test_what_is_waiting_for_a_review_follows(client: httpx.AsyncClient) -> None:
    await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.999})
    await poisoned(client)

    async def status(key: str) -> str:
        return str((await client.get(f"/v1/reviews/{key}")).json()["status"])

    assert [await status(f"t-{n}") for n in range(3)] == ["resolved", "open", "resolved"]
    await back(client, 2)
    assert [await status(f"t-{n}") for n in range(3)] == ["resolved", "resolved", "open"]


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"webhooks_private": True})


async def listen(client: httpx.AsyncClient) -> None:
    """A webhook for labels and copies, to a port that nobody listens on: nothing is delivered."""
    events = ["label.changed", "adaptation.done"]
    made = await client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/", "events": events})
    assert made.status_code == 200, made.text


async def events_of(client: httpx.AsyncClient) -> list[str]:
    async with part_of(client, Database).read() as connection:
        return list((await connection.execute(select(outbox.c.event))).scalars())


async def test_webhooks_get_each_label_and_the_copy(sole: httpx.AsyncClient) -> None:
    await poisoned(sole)
    await listen(sole)
    await back(sole, 2)
    assert sorted(await events_of(sole)) == ["adaptation.done", *["label.changed"] * 3]


async def test_a_new_note_is_an_event_of_the_label_and_not_of_the_copy(
    sole: httpx.AsyncClient,
) -> None:
    await score(sole, posted("a"))
    await put(sole, "a")
    await listen(sole)
    # With it the label has another time, which copies do not learn from.
    await put(sole, "a", note="Sure.")
    assert await events_of(sole) == ["label.changed"]


async def test_a_merchant_and_the_copies_of_others_forget_what_is_taken_back(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """The stranger's tenant lives the same life, and is never poisoned."""
    adapters, scores = [], []
    for caller in (client, stranger):
        await score(caller, *(posted(f"old-{n}", occurred_at=LONG_AGO) for n in range(3)))
        await put(caller, "old-0", "legitimate", labelled_at=FOUND_OUT)
        if caller is client:
            await put(caller, "old-1", labelled_at=FOUND_OUT)
        await score(caller, posted("bob-0", account_id="bob", occurred_at="2026-01-05T10:00:00Z"))
        await put(caller, "bob-0")
        if caller is client:
            await back(caller, 1)
        adapted = await caller.post("/v1/accounts/bob/adapt")
        adapters.append(adapted.json()["adaptation"]["adapter"])
        later = posted("bob-1", account_id="bob", occurred_at="2026-01-06T10:00:00Z")
        scores += await score(caller, later)
    assert (await history(client, "bob-0"))["history"][1]["corrected"] is True
    assert adapters[0] == adapters[1]
    assert scores[0]["probability"] == scores[1]["probability"]


async def test_a_changed_label_changes_back_in_its_merchants_record(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    probabilities = []
    for caller in (client, stranger):
        await score(caller, posted("old", occurred_at=LONG_AGO))
        await put(caller, "old", labelled_at=FOUND_OUT)
        if caller is client:
            await put(caller, "old", "legitimate", labelled_at=FOUND_OUT)
            await score(caller, posted("folds", account_id="carol", merchant_id="gadgets"))
            await back(caller, 1)
        else:
            await score(caller, posted("folds", account_id="carol", merchant_id="gadgets"))
        [scored] = await score(
            caller, posted("bob", account_id="bob", occurred_at="2026-02-05T10:00:00Z")
        )
        probabilities.append(scored["probability"])
    assert probabilities[0] == probabilities[1]


async def own_witness(client: httpx.AsyncClient) -> None:
    """By revision 2 an account has learned from a payment that saw an earlier label of its own."""
    await score(client, posted("old", occurred_at=LONG_AGO))
    await put(client, "old", labelled_at=FOUND_OUT)
    await score(client, posted("new", occurred_at="2026-01-05T10:00:00Z"))
    await put(client, "new")


async def test_what_the_account_itself_had_forgotten_comes_back(
    client: httpx.AsyncClient,
) -> None:
    await own_witness(client)
    await remove(client, "old")
    assert (await history(client, "new"))["history"][-1]["corrected"] is True
    # As evidence about the same merchant, and to be removed by the same rollback.
    await score(client, posted("poison", occurred_at=LONG_AGO))
    await put(client, "poison", labelled_at=FOUND_OUT)
    tried = await back(client, 2, dry_run=True)
    done = await back(client, 2)
    assert done["adaptation"]["adapter"] == await adapter(client, 2)
    assert tried["adaptation"]["adapter"] == done["adaptation"]["adapter"]
    # That is a state to come back to as well.
    await remove(client, "old")
    await put(client, "new", "legitimate")
    again = await back(client, done["revision"])
    assert again["adaptation"]["adapter"] == done["adaptation"]["adapter"]


@pytest.mark.parametrize("way", ["label", "account"])
@pytest.mark.parametrize("unlabelled", [False, True])
async def test_what_others_have_had_forgotten_stays_forgotten(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, way: str, unlabelled: bool
) -> None:
    """Bob's label is removed, or bob erased; the stranger's tenant never had the label."""
    adapters = []
    for caller in (client, stranger):
        await score(caller, posted("old", account_id="bob", occurred_at=LONG_AGO))
        if caller is client:
            await put(caller, "old", labelled_at=FOUND_OUT)
        await own_witness_of(caller)
        if caller is client:
            if way == "account":
                await caller.delete("/v1/accounts/bob")
            else:
                await remove(caller, "old")
        if unlabelled:
            await remove(caller, "new")
        await put(caller, "other")
        adapters.append((await back(caller, 1))["adaptation"]["adapter"])
    assert adapters[0] == adapters[1]
    assert (adapters[0] == await adapter(client, 1)) is False


async def own_witness_of(client: httpx.AsyncClient) -> None:
    """By revision 1 alice has learned from a payment that saw bob's label."""
    await score(
        client,
        posted("new", occurred_at="2026-01-05T10:00:00Z"),
        posted("other", occurred_at="2026-01-05T11:00:00Z"),
    )
    await put(client, "new")


@pytest.mark.parametrize("seed", range(3))
async def test_any_life_can_be_rolled_back(sole: httpx.AsyncClient, seed: int) -> None:
    """Labels of two accounts at one merchant, set, changed and removed at random."""
    random = np.random.default_rng(seed)
    keys = [f"a-{n}" for n in range(6)]
    days = [f"2025-{month:02}-03T10:00:00Z" for month in range(6, 12)]
    for key, day in zip(keys, days, strict=True):
        await score(sole, posted(key, occurred_at=day), posted(f"b{key}", account_id="bob"))
    labelled: set[str] = set()
    adapters: dict[int, str] = {0: await adapter(sole, 0)}
    for step in range(14):
        # It sees the labels of the merchant that have matured by now.
        keys.append(f"c-{step}")
        await score(sole, posted(keys[-1], occurred_at=f"2026-01-{step + 1:02}T10:00:00Z"))
        key = str(random.choice(keys))
        if step == 4:
            await put(sole, "ba-0")
        if step % 5 == 4:
            revision = int(random.choice(list(adapters)))
            done = await back(sole, revision)
            assert done["adaptation"]["adapter"] == adapters[revision]
            answer = await sole.get(f"/v1/accounts/alice/revisions/{done['revision']}")
            labelled = {label["transaction_id"] for label in answer.json()["labels"]}
        elif key in labelled and random.random() < 0.4:
            done = (await sole.delete(f"/v1/transactions/{key}/label")).json()
            labelled.discard(key)
        else:
            name = "fraud" if random.random() < 0.5 else "legitimate"
            done = await put(sole, key, name, labelled_at="2025-12-01T10:00:00Z")
            labelled.add(key)
        made = done["adaptation"]
        adapters[made["revision"]] = made["adapter"]


async def test_a_rollback_is_one_change_of_a_keys_allowance(sole: httpx.AsyncClient) -> None:
    await poisoned(sole)
    part_of(sole, Labelling).allowance.changes = 7
    for revision in (2, 5):
        await back(sole, revision)
        # Again is no change, and free.
        await back(sole, revision)
    refused = await sole.post("/v1/accounts/alice/rollback", json={"revision": 0})
    assert problem_of(refused) == (429, "too_many_labels")


async def test_labels_that_come_meanwhile_are_before_or_after_it(
    sole: httpx.AsyncClient,
) -> None:
    await score(sole, *(posted(f"t-{n}", amount=40 + 60 * n) for n in range(9)))
    await put(sole, "t-0")
    expected = await adapter(sole, 1)
    await put(sole, "t-1")
    done, *_ = await asyncio.gather(back(sole, 1), *(put(sole, f"t-{n}") for n in range(2, 9)))
    assert done["adaptation"]["adapter"] == expected
    assert await adapter(sole, done["revision"]) == expected
    later = 10 - done["revision"]
    labels = (await sole.get("/v1/accounts/alice")).json()["labels"]
    assert labels == {"fraud": 1 + later, "legitimate": 0}


async def test_many_labels_come_back_at_once(sole: httpx.AsyncClient) -> None:
    bodies = [posted(f"t-{n:03}", amount=40 + n) for n in range(150)]
    await score(sole, *bodies)
    labels = [label(body["transaction_id"], "legitimate") for body in bodies]
    done = await sole.post("/v1/accounts/alice/labels", json={"labels": labels})
    await back(sole, 0)
    again = await back(sole, 1)
    assert again["adaptation"]["adapter"] == done.json()["adaptation"]["adapter"]
    assert again["labels"]["legitimate"] == 150
