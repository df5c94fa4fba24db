"""Notes on accounts: kept, logged, and erased with them."""

import httpx
import pytest
from sqlalchemy import select

from app.db.database import Database
from app.db.schema import notes
from tests.api.callers import part_of
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio


async def test_a_note_stays_until_its_account_is_erased(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient
) -> None:
    await shared.post("/v1/transactions", json=posted("t-1", account_id="a"))
    await shared.post("/v1/transactions", json=posted("t-2", account_id="b"))
    path = "/v1/accounts/a/notes"
    texts = ["Called.\nNo answer.", "<b>{{7*7}}</b>\u202e", "x" * 2000]
    added = [
        (
            await shared.post(path, json={"text": text, "author": "mia", "transaction_id": "t-1"})
        ).json()
        for text in texts
    ]
    first = (await shared.get(path, params={"limit": 2})).json()
    rest = (await shared.get(path, params={"cursor": first["next_cursor"]})).json()
    assert first["data"] + rest["data"] == added[::-1]
    assert [note["text"] for note in added] == texts
    log = (await shared.get("/v1/audit-log", params={"action": "note.added"})).json()["data"]
    assert [(logged["subject"], logged["account_id"]) for logged in log] == [
        (note["id"], "a") for note in added[::-1]
    ]
    assert {note["actor"] for note in added} == {shared.headers["Authorization"].split("_")[1]}
    for body, expected in (
        ({"text": "x", "transaction_id": "t-2"}, (422, "transaction_of_another_account")),
        ({"text": "x", "transaction_id": "t-9"}, (404, "transaction_not_found")),
        ({"text": ""}, (422, "validation_failed")),
        ({"text": "x" * 2001}, (422, "validation_failed")),
        ({"text": "a\x00b"}, (422, "validation_failed")),
    ):
        assert problem_of(await shared.post(path, json=body)) == expected
    for caller, at in ((shared_stranger, path), (shared, "/v1/accounts/none/notes")):
        assert problem_of(await caller.get(at)) == (404, "account_not_found")
        refused = await caller.post(at, json={"text": "x"})
        assert problem_of(refused) == (404, "account_not_found")
    assert (await shared.delete("/v1/accounts/a")).status_code == 200
    async with part_of(shared, Database).read() as connection:
        assert (await connection.execute(select(notes))).all() == []
