"""Models over HTTP: which there are, activated and rolled back without a restart, in shadow."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from app.db.database import Database
from app.db.schema import checkpoints
from app.jobs.aside import Task
from app.jobs.measuring import measured
from app.keys import service as keys
from app.learner.checkpoint import METADATA, WEIGHTS
from app.models.comparison import LEAST_FRAUDS, average_precision
from app.settings import Settings
from tests.api.callers import calling, of_another_tenant
from tests.api.requests import posted, problem_of
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints to copy, each another."""
    folder = tmp_path_factory.mktemp("others")
    tiny_checkpoint(folder / "second", seed=1)
    tiny_checkpoint(folder / "elsewhere", seed=2)
    return folder


@pytest.fixture
def shelf(tmp_path: Path, checkpoint: Path, others: Path) -> Path:
    """Three checkpoints: the deployment's, another, and one whose weights are damaged."""
    folder = tmp_path / "shelf"
    shutil.copytree(checkpoint, folder / "first")
    shutil.copytree(others / "second", folder / "second")
    shutil.copytree(checkpoint, folder / "damaged")
    weights = folder / "damaged" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (folder / "empty").mkdir()
    # Whole checkpoints, but somewhere else.
    shutil.copytree(others / "elsewhere", tmp_path / "elsewhere")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "links").mkdir()
    for file in (METADATA, WEIGHTS):
        (folder / "links" / file).symlink_to(tmp_path / "elsewhere" / file)
    (folder / "alias").symlink_to("second")
    return folder


@pytest.fixture
def settings(service_settings: Settings, shelf: Path) -> Settings:
    return service_settings.model_copy(update={"model": shelf / "first"})


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(settings) as client:
        yield client


async def models(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    answer = await client.get("/v1/models")
    assert answer.status_code == 200, answer.text
    return {model["name"]: model for model in answer.json()["data"]}


async def do(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.post(f"/v1/models/{path}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def score(client: httpx.AsyncClient, key: str, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/transactions", json=posted(key, **changes))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_models_that_cannot_serve_are_listed_too(client: httpx.AsyncClient) -> None:
    found = await models(client)
    assert list(found) == ["alias", "damaged", "first", "link", "links", "second"]
    assert [name for name, model in found.items() if model["active"]] == ["first"]
    assert found["damaged"]["refused"] == (
        f"Model 'damaged' cannot be served: {WEIGHTS} was altered or damaged."
    )
    assert [name for name, model in found.items() if model["refused"] is None] == [
        *("alias", "first", "second")
    ]


async def test_a_model_is_activated_and_rolled_back_between_two_scores(
    client: httpx.AsyncClient,
) -> None:
    answer = await score(client, "t-1")
    await client.put("/v1/transactions/t-1/label", json={"label": "fraud"})
    adapted = await score(client, "t-2")
    await do(client, "second/activate")
    other = await score(client, "t-3")
    await do(client, "rollback")
    back = await score(client, "t-4")
    assert answer["model"] == adapted["model"] == back["model"] != other["model"]
    assert adapted["probability"] == back["probability"] != other["probability"]
    # The label moved the copy of the other model too.
    assert (other["adaptation"]["labels"], other["adaptation"]["revision"]) == (1, 1)
    assert (await models(client))["first"]["active"]


async def test_a_score_is_replayed_by_the_model_that_made_it(client: httpx.AsyncClient) -> None:
    await score(client, "t-1")
    await do(client, "second/activate")
    await score(client, "t-2")
    for key in ("t-1", "t-2"):
        again = (await client.post(f"/v1/transactions/{key}/replay")).json()
        assert (again["match"], again["differs"]) == (True, [])
        explained = (await client.get(f"/v1/transactions/{key}/reasons")).json()
        assert explained["model"] == again["stored_model"]


async def test_rolling_back_twice_comes_back_and_without_a_past_is_refused(
    client: httpx.AsyncClient,
) -> None:
    refused = await client.post("/v1/models/rollback")
    assert problem_of(refused) == (409, "model_refused")
    await do(client, "second/activate")
    await do(client, "rollback")
    await do(client, "rollback")
    assert (await models(client))["second"]["active"]


NOT_THERE = [
    *("nothing", "empty", "SECOND", "link", "links"),
    *("..", "../shelf/second", "../elsewhere", "..\\shelf\\second", "/etc", "second/"),
    *("second\0", "second\n", "%2e%2e", "..%c0%afsecond", " second", "s" * 128),
]


@pytest.mark.parametrize("action", ["activate", "shadow", "promote", "comparisons", "drift"])
async def test_what_is_no_model_is_refused_and_the_active_one_goes_on(
    client: httpx.AsyncClient, shelf: Path, action: str
) -> None:
    expected = dict.fromkeys(NOT_THERE, (404, "model_not_found"))
    for name, answer in {**expected, "damaged": (409, "model_refused")}.items():
        encoded = "".join(f"%{byte:02x}" for byte in name.encode())
        body = {"comparison": "0" * 16} if action == "promote" else None
        refused = await client.post(f"/v1/models/{encoded}/{action}", json=body)
        assert problem_of(refused) == answer, name
        # Where the checkpoints are is the operator's business.
        assert str(shelf.parent) not in refused.text
    assert (await models(client))["first"]["active"]
    await score(client, "t-1")


async def test_a_checkpoint_that_changed_under_its_name_is_not_served_for_another(
    client: httpx.AsyncClient, settings: Settings, shelf: Path
) -> None:
    await do(client, "second/activate")
    for file in (METADATA, WEIGHTS):
        shutil.copy(shelf / "first" / file, shelf / "second" / file)
    # The process that has loaded it goes on; one that starts now cannot.
    await score(client, "t-1")
    key = client.headers["Authorization"].removeprefix("Bearer ")
    async with calling(settings, key) as late:
        refused = await late.post("/v1/transactions", json=posted("t-2"))
        assert problem_of(refused) == (503, "model_unavailable")
        assert "no longer the checkpoint" in refused.json()["detail"]
        await do(late, "rollback")
        await score(late, "t-2")


async def test_what_has_a_role_is_listed_although_its_folder_is_gone(
    client: httpx.AsyncClient, shelf: Path
) -> None:
    tiny_checkpoint(shelf / "tried", seed=3)
    await do(client, "second/activate")
    await do(client, "tried/shadow")
    for name in ("second", "tried"):
        shutil.rmtree(shelf / name)
    listed = await models(client)
    assert [name for name, model in listed.items() if model["active"]] == ["second"]
    assert [name for name, model in listed.items() if model["shadow"]] == ["tried"]
    assert listed["second"]["refused"] == "There is no model 'second'."
    # It goes on as long as this process does, and can be left.
    assert (await score(client, "a"))["model"].startswith("tiny@")
    assert (await client.delete("/v1/models/tried/shadow")).status_code == 200
    await do(client, "rollback")
    assert set(await models(client)) == set(listed) - {"second", "tried"}


async def test_each_tenant_has_a_model_of_its_own(
    client: httpx.AsyncClient,
) -> None:
    await do(client, "second/activate")
    async with await of_another_tenant(client) as stranger:
        own, theirs = await score(client, "t-1"), await score(stranger, "t-1")
        assert own["model"] != theirs["model"]
        assert (await models(stranger))["first"]["active"]


async def test_who_activated_what_is_logged(client: httpx.AsyncClient) -> None:
    await do(client, "second/shadow")
    await do(client, "second/activate")
    entries = (await client.get("/v1/audit-log", params={"subject": "second"})).json()["data"]
    assert [entry["action"] for entry in entries] == ["model.activated", "model.shadowed"]
    assert entries[0]["after"]["digest"] == (await models(client))["second"]["digest"]


async def some_labels(client: httpx.AsyncClient, frauds: int) -> None:
    """Traffic of many accounts of which some has labels, and copies learn from them."""
    for n in range(2 * frauds):
        await score(client, f"a-{n}", account_id=f"acc-{n % 5}", amount=20 + 40 * n)
    for n in range(2 * frauds):
        name = "fraud" if n >= frauds else "legitimate"
        await client.put(f"/v1/transactions/a-{n}/label", json={"label": name})
    for n in range(6):
        await score(client, f"b-{n}", account_id=f"acc-{n % 5}", amount=30 + 100 * n)


async def compared(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """A comparison that has been computed in a process of its own."""
    started = await client.post(f"/v1/models/{name}/comparisons", json={"days": 365})
    assert started.status_code == 202, started.text
    while True:
        answer = await client.get(started.headers["Location"])
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        if job["status"] in {"done", "failed"}:
            return job
        await asyncio.sleep(0.1)


async def test_a_comparison_shows_what_the_other_model_would_have_answered(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    async def compared_with(name: str) -> dict[str, Any]:
        text = await measured(settings, Task("comparison", "default", name, 365))
        found: dict[str, Any] = json.loads(text)
        return found

    await some_labels(client, 3)
    same = await compared_with("first")
    assert (same["agreement"], same["changes"], same["transactions"]) == (1.0, [], 12)
    assert same["shift"] < 1e-6
    assert same["active"] == same["shadow"]
    other = await compared_with("second")
    assert other["shift"] > 0.001
    assert (other["frauds"], other["legitimates"], other["better"]) == (3, 3, None)


@mainly("sqlite")
async def test_a_model_is_promoted_only_by_a_comparison_in_which_it_is_no_worse(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, shelf: Path
) -> None:
    path = "/v1/models/second/promote"
    await some_labels(client, 3)
    few = {"comparison": (await compared(client, "second"))["id"]}
    assert "too few to compare by" in (await client.post(path, json=few)).json()["detail"]
    await some_labels_more(client)
    job = await compared(client, "second")
    found = job["result"]
    assert found["better"] is not None
    body = {"comparison": job["id"]}
    for refused in (
        await stranger.post(path, json=body),
        await client.post("/v1/models/first/promote", json=body),
        await client.post(path, json={"comparison": "0" * 16}),
    ):
        assert problem_of(refused) == (404, "job_not_found")
    promoted = await client.post(path, json=body)
    if found["better"]:
        assert (promoted.status_code, promoted.json()) == (200, found)
    else:
        assert problem_of(promoted) == (409, "model_refused")
    assert (await models(client))["second"]["active"] is found["better"]
    # Of the two, the other way round must come out the other way, unless they are level.
    ours, theirs = (found[name]["average_precision"] for name in ("active", "shadow"))
    assert found["better"] is (theirs >= ours)
    # What it was compared with is not active any more, and then it is not what was compared.
    await do(client, "alias/activate" if not found["better"] else "first/activate")
    if not found["better"]:
        again = await client.post(path, json=body)
        assert "Another model has become active" in again.json()["detail"]
    await do(client, "rollback")
    for file in (METADATA, WEIGHTS):
        shutil.copy(shelf / "first" / file, shelf / "second" / file)
    assert (
        "has changed since it was compared" in (await client.post(path, json=body)).json()["detail"]
    )


async def some_labels_more(client: httpx.AsyncClient) -> None:
    for n in range(2 * LEAST_FRAUDS):
        await score(client, f"c-{n}", account_id=f"lone-{n}", amount=25 + 30 * (n % 7))
    for n in range(2 * LEAST_FRAUDS):
        name = "fraud" if n % 2 else "legitimate"
        await client.put(f"/v1/transactions/c-{n}/label", json={"label": name})


async def test_an_id_of_a_job_with_control_characters_is_refused(client: httpx.AsyncClient) -> None:
    for path in ("drift/%00", "comparisons/a%1Fb"):
        refused = await client.get(f"/v1/models/tiny/{path}")
        assert problem_of(refused) == (422, "validation_failed")


async def test_a_checkpoint_whose_files_are_others_is_another_at_once(
    client: httpx.AsyncClient, shelf: Path
) -> None:
    before = await models(client)
    assert await models(client) == before
    for file in (METADATA, WEIGHTS):
        shutil.copy(shelf / "first" / file, shelf / "second" / file)
    now = (await models(client))["second"]
    assert now["digest"] == before["first"]["digest"] != before["second"]["digest"]
    # Of the same size.
    weights = (shelf / "second" / WEIGHTS).read_bytes()
    (shelf / "second" / WEIGHTS).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert (await models(client))["second"]["refused"] is not None
    refused = await client.get("/v1/models/second/report")
    assert problem_of(refused) == (409, "model_refused")
    (shelf / "second" / WEIGHTS).write_bytes(weights)
    assert (await models(client))["second"] == now
    shutil.rmtree(shelf / "second")
    assert "second" not in await models(client)
    gone = await client.get("/v1/models/second/report")
    assert problem_of(gone) == (404, "model_not_found")


async def test_shadow_begins_and_ends(client: httpx.AsyncClient) -> None:
    await do(client, "second/shadow")
    assert (await models(client))["second"]["shadow"]
    await client.delete("/v1/models/second/shadow")
    assert not (await models(client))["second"]["shadow"]
    refused = await client.delete("/v1/models/second/shadow")
    assert problem_of(refused) == (404, "model_not_found")


@pytest.mark.parametrize("days", [0, -1, 366, "x", "28", None, True])
@pytest.mark.parametrize("kind", ["comparisons", "drift"])
async def test_a_span_out_of_bounds_is_refused(
    edge: httpx.AsyncClient, kind: str, days: Any
) -> None:
    refused = await edge.post(f"/v1/models/default/{kind}", json={"days": days})
    assert problem_of(refused) == (422, "validation_failed")


def test_average_precision_is_that_of_the_field() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        probability_N = rng.integers(0, 6, 30) / 6
        is_fraud_N = rng.random(30) < 0.3
        if is_fraud_N.any():
            expected = average_precision_score(is_fraud_N, probability_N)
            assert average_precision(probability_N, is_fraud_N) == pytest.approx(expected)
    assert average_precision(np.zeros(3), np.zeros(3, bool)) is None


async def replays(client: httpx.AsyncClient, keys: Iterable[str]) -> list[dict[str, Any]]:
    answers = [await client.post(f"/v1/transactions/{key}/replay") for key in keys]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


async def test_scores_are_replayed_after_their_checkpoint_was_replaced(
    settings: Settings, shelf: Path
) -> None:
    """The deployment's, one that was activated, and one of a tenant of its own; then all go."""
    database = Database(settings.database_url)
    key = await keys.create(database, "tests")
    other_key = await keys.create(database, "tests", tenant="other")
    await database.close()
    async with calling(settings, key) as client, calling(settings, other_key) as other:
        await score(client, "t-1")
        await client.put("/v1/transactions/t-1/label", json={"label": "fraud"})
        await score(client, "t-2")
        await do(client, "second/activate")
        await score(client, "t-3")
        await do(client, "rollback")
        await do(other, "second/activate")
        await score(other, "t-1")
        before = await replays(client, ("t-1", "t-2", "t-3"))
        before += await replays(other, ("t-1",))
        why = (await client.get("/v1/transactions/t-2/reasons")).json()
    assert {payment["match"] for payment in before} == {True}
    assert len({payment["stored_model"] for payment in before}) == 2
    for name, seed in (("first", 7), ("second", 8)):
        shutil.rmtree(shelf / name)
        tiny_checkpoint(shelf / name, seed=seed)
    async with calling(settings, key) as client, calling(settings, other_key) as other:
        after = await replays(client, ("t-1", "t-2", "t-3"))
        after += await replays(other, ("t-1",))
        assert (await client.get("/v1/transactions/t-2/reasons")).json() == why
        # What decides is what lies in the folder, or nothing: nobody chose these.
        assert (await score(client, "t-4"))["model"] not in {
            payment["stored_model"] for payment in before
        }
        refused = await other.post("/v1/transactions", json=posted("t-4"))
        assert problem_of(refused) == (503, "model_unavailable")
        second = (await models(other))["second"]
        assert second["active"]
        assert "no longer the checkpoint that decides" in second["refused"]
        assert (await models(client))["first"]["refused"] is None
    # To the bit: the digests of the copies, too.
    assert after == before


async def test_what_was_activated_before_checkpoints_were_kept_is_kept_from_the_next_start_on(
    settings: Settings, shelf: Path
) -> None:
    database = Database(settings.database_url)
    key = await keys.create(database, "tests")
    async with calling(settings, key) as client:
        await do(client, "second/activate")
        await score(client, "t-1")
        await do(client, "rollback")
    async with database.write() as connection:
        await connection.execute(checkpoints.delete())
    await database.close()
    async with calling(settings, key):
        pass
    shutil.rmtree(shelf / "second")
    async with calling(settings, key) as client:
        [replayed] = await replays(client, ["t-1"])
    assert replayed["match"]
