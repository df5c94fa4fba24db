"""Any score replayed, any copy made again, each label weighed, and accounts erased."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.db.database import Database
from app.db.schema import entities, metadata
from app.settings import Settings
from tests.api.callers import calling, of_another_tenant, part_of
from tests.api.requests import label, posted, problem_of
from tests.api.test_labels import history, put, score
from tests.checkpoints import tiny_checkpoint
from tests.reliability.stored import numbers_of

pytestmark = pytest.mark.anyio


async def replayed(client: httpx.AsyncClient, key: str) -> Any:
    answer = await client.post(f"/v1/transactions/{key}/replay")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def some_history(client: httpx.AsyncClient) -> None:
    """Scores of an account between changes of its labels: revisions 0 to 4."""
    await score(client, *(posted(f"t-{n}", amount=40 + 60 * n) for n in range(6)))
    await put(client, "t-5")
    await score(client, posted("u-1"))
    await put(client, "t-0", "legitimate")
    await score(client, posted("u-2"))
    await put(client, "t-5", "legitimate")
    await score(client, posted("u-3"))
    await client.delete("/v1/transactions/t-0/label")
    await score(client, posted("u-4"))


async def test_every_score_is_replayed_whatever_became_of_its_labels(
    client: httpx.AsyncClient,
) -> None:
    await some_history(client)
    await client.post("/v1/thresholds", json={"review": 0.001, "decline": 0.9})
    await score(client, posted("u-5"))
    for key in [*(f"t-{n}" for n in range(6)), *(f"u-{n}" for n in range(1, 6))]:
        again = await replayed(client, key)
        assert (again["match"], again["differs"]) == (True, []), key
        stored = (await client.get(f"/v1/transactions/{key}")).json()["score"]
        assert again["recomputed"]["probability"] == pytest.approx(stored["probability"], abs=1e-6)
        assert again["adaptation"]["labels"] == stored["adaptation"]["labels"]


async def test_a_replay_is_by_the_model_that_scored_also_after_another_took_its_place(
    service_settings: Settings, tmp_path: Path
) -> None:
    other = service_settings.model_copy(update={"model": tiny_checkpoint(tmp_path, seed=1)})
    async with calling(service_settings) as client:
        await score(client, posted("a"))
        key = client.headers["Authorization"].removeprefix("Bearer ")
    async with calling(other, key) as client:
        again = await replayed(client, "a")
    assert again["match"] is True
    assert again["differs"] == []
    assert again["model"] == again["stored_model"]


async def test_a_score_that_was_tampered_with_does_not_match(client: httpx.AsyncClient) -> None:
    await score(client, posted("a"))
    database = part_of(client, Database)
    from sqlalchemy import update

    from app.db.schema import transactions

    async with database.write() as connection:
        await connection.execute(update(transactions).values(probability=0.5, content="{}"))
    assert (await replayed(client, "a"))["differs"] == ["content", "probability"]


async def test_the_copy_of_any_past_revision_can_be_made_again(client: httpx.AsyncClient) -> None:
    await score(client, *(posted(f"t-{n}", amount=40 + 60 * n) for n in range(4)))
    made = [await put(client, f"t-{n}") for n in range(4)]
    made.append((await client.delete("/v1/transactions/t-1/label")).json())
    for revision, then in enumerate(made, 1):
        again = (await client.get(f"/v1/accounts/alice/revisions/{revision}")).json()
        assert again["adaptation"]["adapter"] == then["adaptation"]["adapter"]
        assert again["changed"] == [then["transaction_id"]]
    assert [label["transaction_id"] for label in again["labels"]] == ["t-3", "t-2", "t-0"]
    none = (await client.get("/v1/accounts/alice/revisions/0")).json()
    assert (none["labels"], none["adaptation"]["used"]) == ([], "insufficient_labels")
    refused = await client.get("/v1/accounts/alice/revisions/6")
    assert problem_of(refused) == (404, "revision_not_found")


async def test_influence_is_what_the_account_would_be_without_each_label(
    client: httpx.AsyncClient,
) -> None:
    await score(client, *(posted(f"t-{n}", amount=40 + 300 * n) for n in range(4)))
    for n, name in enumerate(["legitimate", "legitimate", "fraud"]):
        await put(client, f"t-{n}", name)
    influence = (await client.get("/v1/accounts/alice/influence")).json()
    shifts = [label["shift"] for label in influence["labels"]]
    assert shifts == sorted(shifts, reverse=True)
    assert min(shifts) > 0
    assert {label["transaction_id"] for label in influence["labels"]} == {"t-0", "t-1", "t-2"}
    first = influence["labels"][0]
    without = (await client.delete(f"/v1/transactions/{first['transaction_id']}/label")).json()
    recent = {effect["transaction_id"]: effect for effect in without["recent"]}
    assert recent[first["furthest"]]["after"] == first["without"]
    assert recent[first["furthest"]]["before"] == first["with_label"]


async def test_older_labels_than_a_copy_learns_from_have_no_influence(
    client: httpx.AsyncClient,
) -> None:
    bodies = [posted(f"t-{n:02}", occurred_at=f"2026-01-{n + 1:02}T10:00:00Z") for n in range(31)]
    bodies += [posted(f"u-{n}", occurred_at=f"2026-02-0{n + 1}T10:00:00Z") for n in range(3)]
    await score(client, *bodies)
    labels = [label(body["transaction_id"], "legitimate") for body in bodies]
    await client.post("/v1/accounts/alice/labels", json={"labels": labels})
    influence = (await client.get("/v1/accounts/alice/influence")).json()
    assert influence["adaptation"]["labels"] == 32
    assert [label["learned"] for label in influence["labels"]] == [True] * 32


async def test_the_first_suggestion_is_the_label_that_moves_the_account_most(
    client: httpx.AsyncClient,
) -> None:
    await score(client, *(posted(f"t-{n}", amount=40 + 300 * n) for n in range(6)))
    await put(client, "t-0", "legitimate")
    answer = (await client.get("/v1/accounts/alice/ask-next", params={"limit": 50})).json()
    suggested = [
        suggestion["transaction"]["transaction_id"] for suggestion in answer["suggestions"]
    ]
    assert sorted(suggested) == ["t-1", "t-2", "t-3", "t-4", "t-5"]
    shifts = [suggestion["shift"] for suggestion in answer["suggestions"]]
    assert shifts == sorted(shifts, reverse=True)
    two = (await client.get("/v1/accounts/alice/ask-next", params={"limit": 2})).json()
    assert two["suggestions"] == answer["suggestions"][:2]


async def test_a_matured_label_that_is_deleted_is_forgotten_by_the_copies_of_others(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """The stranger's tenant lives the same life, and never gives the label."""
    adapters, scores = [], []
    for caller in (client, stranger):
        await score(caller, posted("old", occurred_at="2025-11-01T10:00:00Z"))
        await score(caller, posted("kept", occurred_at="2025-11-01T11:00:00Z", account_id="carol"))
        await put(caller, "kept", labelled_at="2025-11-09T10:00:00Z")
        if caller is client:
            await put(caller, "old", labelled_at="2025-11-09T10:00:00Z")
        for n, day in enumerate(("05", "06")):
            body = posted(f"bob-{n}", account_id="bob", occurred_at=f"2026-01-{day}T10:00:00Z")
            scores += await score(caller, body)
        await put(caller, "bob-0")
        if caller is client:
            answer = await caller.delete("/v1/transactions/old/label")
            assert answer.status_code == 200
        # One that is labelled only after the other was forgotten.
        done = await put(caller, "bob-1")
        adapters.append(done["adaptation"]["adapter"])
    own, theirs = scores[:2], scores[2:]
    assert own[0]["probability"] != theirs[0]["probability"]
    assert adapters[0] == adapters[1]
    entries = (await history(client, "bob-0"))["history"]
    assert [entry["corrected"] for entry in entries] == [False, True]
    # What was answered stays, and can be replayed.
    assert (await replayed(client, "bob-0"))["match"] is True


async def test_a_changed_label_brings_back_nothing_of_an_erased_account(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """The stranger's tenant lives the same life, and never gives the label."""
    adapters = []
    for caller in (client, stranger):
        await score(caller, posted("old", occurred_at="2025-11-01T10:00:00Z"))
        if caller is client:
            await put(caller, "old", labelled_at="2025-11-09T10:00:00Z")
        await score(caller, posted("bob-0", account_id="bob", occurred_at="2026-01-05T10:00:00Z"))
        await put(caller, "bob-0")
        if caller is client:
            erased = await caller.delete("/v1/accounts/alice")
            assert erased.json()["labels_corrected"] == 1
        done = await put(caller, "bob-0", "legitimate")
        adapters.append(done["adaptation"]["adapter"])
    assert adapters[0] == adapters[1]


@pytest.mark.parametrize("step", [1, 2, 100])
@pytest.mark.parametrize("most", [0, 100])
async def test_an_entity_is_made_anew_from_what_others_paid(
    shared: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, step: int, most: int
) -> None:
    """One tenant never had the account that the other erases. Of more users than some, all payments
    are looked at."""
    monkeypatch.setattr("app.scoring.store.STEP_ENTRIES", step)
    monkeypatch.setattr("app.erasures.service.MOST_USERS", most)
    others = [
        posted(f"b-{n}", account_id="bob", merchant_id=f"m-{n % 2}", amount=30 + n, device_id="d")
        for n in range(5)
    ]
    others.append(posted("e-1", account_id="eve", merchant_id="elsewhere", device_id="d-2"))
    mine_alone = {"merchant_id": "m-2", "device_id": "d-1", "email": "alice@example.com"}
    life = [{"merchant_id": "m-0", "device_id": "d"}, {"merchant_id": "m-1"}, mine_alone]
    tenants = [f"{name}-{step}-{most}" for name in ("erases", "never-had")]
    async with (
        await of_another_tenant(shared, tenants[0]) as erasing,
        await of_another_tenant(shared, tenants[1]) as other,
    ):
        payments = [posted(f"a-{n}", amount=900, **named) for n, named in enumerate(life)]
        await score(erasing, *payments)
        await score(erasing, *others)
        await score(other, *others)
        await erasing.delete("/v1/accounts/alice")
    async with part_of(shared, Database).read() as connection:
        rows = (await connection.execute(select(entities))).all()
    here, there = [
        {
            (row.kind, row.entity_id): numbers_of(row.state).tolist()
            for row in rows
            if row.tenant == tenant
        }
        for tenant in tenants
    ]
    # What nobody else has used is gone.
    assert here.keys() == there.keys()
    assert here.keys() >= {("merchant", "m-0"), ("merchant", "m-1"), ("device", "d")}
    for key, state in here.items():
        assert state == pytest.approx(there[key], rel=1e-12), key


async def test_an_erased_account_leaves_nothing_and_comes_back_as_a_new_one(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    life = [posted(f"t-{n}", amount=40 + 60 * n) for n in range(4)]
    bob = posted("bob-1", account_id="bob")
    await score(client, bob, *life)
    await score(stranger, bob)
    await put(client, "t-1")
    await put(client, "t-2", "legitimate")
    certificate = (await client.delete("/v1/accounts/alice")).json()
    assert certificate["erased"] == {
        "transactions": 4,
        "labels": 2,
        "label_events": 2,
        "reviews": 0,
    }
    digest = certificate.pop("digest")
    text = json.dumps(certificate, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    assert any("meta-trained" in sentence for sentence in certificate["not_covered"])
    for path in ("accounts/alice", "transactions/t-1", "transactions/t-1/label"):
        assert (await client.get(f"/v1/{path}")).status_code == 404
    assert problem_of(await client.delete("/v1/accounts/alice"))[0] == 404
    # Here the account was there before; in the other tenant it never was.
    again = [posted(f"v-{n}", amount=70 + n, occurred_at="2026-02-01T10:00:00Z") for n in range(3)]
    assert [answer["probability"] for answer in await score(client, *again)] == [
        answer["probability"] for answer in await score(stranger, *again)
    ]
    here, there = [await put(caller, "v-1", "legitimate") for caller in (client, stranger)]
    assert here["adaptation"] == there["adaptation"]
    assert here["recent"] == there["recent"]
    probabilities = [
        (await score(caller, posted("w", occurred_at="2026-02-02T10:00:00Z")))[0]["probability"]
        for caller in (client, stranger)
    ]
    assert probabilities[0] == probabilities[1]


async def test_a_certificate_is_kept_without_the_account_that_it_is_of(
    sole: httpx.AsyncClient, sole_stranger: httpx.AsyncClient, service_settings: Settings
) -> None:
    await some_history(sole)
    certificate = (await sole.delete("/v1/accounts/alice")).json()
    kept = (await sole.get(f"/v1/erasures/{certificate['id']}")).json()
    assert (await sole.get("/v1/erasures")).json()["data"] == [kept]
    # Whoever has the id can match it, and make the whole certificate out of what is kept.
    salt = bytes.fromhex(kept["salt"])
    matched = hashlib.scrypt(b"alice", salt=salt, n=2**15, r=8, p=1, maxmem=2**27, dklen=32)
    assert kept["account_digest"] == matched.hex()
    assert {**kept, "account_id": "alice"} == {**certificate, "actor": kept["actor"]}
    # The audit log names it, and by which key it was made.
    logged = (await sole.get("/v1/audit-log", params={"subject": kept["id"]})).json()["data"]
    assert [(entry["action"], entry["actor"], entry["after"]) for entry in logged] == [
        ("account.erased", kept["actor"], {"digest": kept["digest"]})
    ]
    # Nothing in the database has the account's id any more.
    database = Database(service_settings.database_url)
    async with database.read() as connection:
        for table in metadata.sorted_tables:
            rows = (await connection.execute(select(table))).all()
            assert "alice" not in str([tuple(row) for row in rows])
    await database.close()
    for path in ("erasures", f"erasures/{kept['id']}"):
        answer = await sole_stranger.get(f"/v1/{path}")
        assert kept["id"] not in answer.text or answer.status_code == 404
    assert problem_of(answer) == (404, "erasure_not_found")


async def test_an_account_that_came_back_has_a_certificate_of_its_own(
    client: httpx.AsyncClient,
) -> None:
    certificates = []
    for n in range(3):
        await score(client, posted(f"t-{n}"))
        certificates.append((await client.delete("/v1/accounts/alice")).json())
    ids = [certificate["id"] for certificate in certificates]
    digests = {certificate["account_digest"] for certificate in certificates}
    assert (len(set(ids)), len(digests)) == (3, 3)
    first = (await client.get("/v1/erasures", params={"limit": 2})).json()
    rest = await client.get("/v1/erasures", params={"limit": 2, "cursor": first["next_cursor"]})
    assert [certificate["id"] for certificate in first["data"] + rest.json()["data"]] == ids[::-1]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "transactions/a/replay", "transaction_not_found"),
        ("GET", "accounts/alice/influence", "account_not_found"),
        ("GET", "accounts/alice/ask-next", "account_not_found"),
        ("GET", "accounts/alice/revisions/0", "account_not_found"),
        ("DELETE", "accounts/alice", "account_not_found"),
        ("GET", "erasures/none", "erasure_not_found"),
    ],
)
async def test_another_tenants_past_does_not_exist(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient, method: str, path: str, code: str
) -> None:
    await score(shared, posted("a"))
    assert problem_of(await shared_stranger.request(method, f"/v1/{path}")) == (404, code)
    assert (await shared.get("/v1/transactions/a")).status_code == 200


@pytest.mark.parametrize("limit", ["0", "51", "many"])
async def test_a_limit_out_of_bounds_is_refused(edge: httpx.AsyncClient, limit: str) -> None:
    refused = await edge.get("/v1/accounts/alice/ask-next", params={"limit": limit})
    assert problem_of(refused) == (422, "validation_failed")


async def test_who_changed_a_webhook_is_in_the_log_and_its_address_is_not(
    client: httpx.AsyncClient,
) -> None:
    webhook = {"url": "https://1.1.1.1:8443/T0/secret?token=x", "events": ["label.changed"]}
    made = (await client.post("/v1/webhooks", json=webhook)).json()
    path = f"/v1/webhooks/{made['id']}"
    for change in ("rotate", "enable"):
        assert (await client.post(f"{path}/{change}")).status_code == 200
    assert (await client.delete(path)).status_code == 200
    assert problem_of(await client.delete(path)) == (404, "webhook_not_found")
    log = (await client.get("/v1/audit-log", params={"subject": made["id"]})).json()["data"]
    assert [entry["action"] for entry in log] == [
        f"webhook.{change}" for change in ("removed", "enabled", "rotated", "created")
    ]
    facts = {"receiver": "https://1.1.1.1:8443", "events": ["label.changed"]}
    assert (log[-1]["before"], log[-1]["after"]) == (None, facts)
    assert (log[0]["before"], log[0]["after"]) == (facts, None)
    assert {entry["actor"] for entry in log} == {client.headers["Authorization"].split("_")[1]}
    assert "secret" not in str(log)
