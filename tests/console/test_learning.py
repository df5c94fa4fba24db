"""An account's page: labels tried and given together, revisions, going back, notes."""

import html

import httpx
import pytest

from tests.api.requests import posted
from tests.console.people import elements, forms, person, send, sent_to, shown, text_in

pytestmark = pytest.mark.anyio


async def paid(client: httpx.AsyncClient, account: str, count: int) -> list[str]:
    names = [f"{account}/{n}" for n in range(count)]
    bodies = [posted(name, account_id=account, amount=40 + n) for n, name in enumerate(names)]
    await client.post("/v1/transactions/batch", json={"transactions": bodies})
    return names


async def labels_of(client: httpx.AsyncClient, account: str) -> dict[str, str]:
    page = await client.get("/v1/transactions", params={"account_id": account})
    return {
        payment["transaction_id"]: payment["label"]
        for payment in page.json()["data"]
        if payment["label"]
    }


async def test_several_labels_are_tried_together_and_then_given_together(
    shared: httpx.AsyncClient,
) -> None:
    names = await paid(shared, "burst", 6)
    async with person(shared, name="mia") as mia:
        choices = elements(await shown(mia, "/account", id="burst"), "input")
        assert {choice.get("value") for choice in choices if "data-choice" in choice} == set(names)
        page = await shown(mia, "/try", account="burst", id=names[:4], label="fraud")
        assert await labels_of(shared, "burst") == {}
        labels = [{"transaction_id": name, "label": "fraud"} for name in names[:4]]
        body = {"dry_run": True, "labels": labels}
        tried = (await shared.post("/v1/accounts/burst/adapt", json=body)).json()
        risks = [f"{effect['after']['risk_score']:.0f}" for effect in tried["labelled"]]
        assert all(f">{risk}</span>" in page for risk in risks)
        assert f"{len(tried['raised'])} would be held up" in text_in(page)
        fields = forms(page)["/console/label-chosen"]
        # What has another label meanwhile stops all of it.
        await shared.put("/v1/transactions/burst%2F3/label", json={"label": "legitimate"})
        query = sent_to(await send(mia, "/label-chosen", **fields))[1]
        assert query == {"id": "burst", "notice": "changed"}
        assert await labels_of(shared, "burst") == {names[3]: "legitimate"}
        page = await shown(mia, "/try", account="burst", id=names[:3], label="fraud")
        fields = forms(page)["/console/label-chosen"]
        query = sent_to(await send(mia, "/label-chosen", **fields, note="One thief."))[1]
        assert query["stored"] == "3"
        assert "3 labels are another now" in text_in(await shown(mia, "/account", **query))
        history = (await shared.get("/v1/transactions/burst%2F0/label")).json()["history"]
        assert (history[0]["analyst"], history[0]["note"]) == ("mia", "One thief.")
        for wrong in ({"ids": ""}, {"ids": "a\nb"}, {"label": "frauds"}):
            answer = await send(mia, "/label-chosen", **{**fields, **wrong})
            assert answer.status_code in (404, 422)
        assert (await mia.get("/console/try?account=burst&label=fraud")).status_code == 422


async def test_a_revision_is_shown_with_its_difference_and_gone_back_to(
    shared: httpx.AsyncClient,
) -> None:
    names = await paid(shared, "back", 3)
    for name in names[:2]:
        path = f"/v1/transactions/{name.replace('/', '%2F')}/label"
        assert (await shared.put(path, json={"label": "fraud"})).status_code == 200
    async with person(shared, name="mia") as mia, person(shared, "read") as auditor:
        page = await shown(mia, "/revision", id="back", revision=2)
        assert "back/1: no label → Fraud" in text_in(page)
        assert "back/0" not in text_in(page)
        body = {"revision": 1, "dry_run": True}
        tried = (await shared.post("/v1/accounts/back/rollback", json=body)).json()
        assert f"{len(tried['labelled'])} labels would change" in text_in(page)
        fields = forms(page)["/console/roll-back"]
        assert "roll-back" not in await shown(auditor, "/revision", id="back", revision=2)
        assert (await send(auditor, "/roll-back", **fields)).status_code == 403
        path = "/v1/transactions/back%2F2/label"
        await shared.put(path, json={"label": "legitimate"})
        assert sent_to(await send(mia, "/roll-back", **fields))[1]["notice"] == "changed"
        await shared.delete(path)
        page = await shown(mia, "/revision", id="back", revision=2)
        query = sent_to(await send(mia, "/roll-back", **forms(page)["/console/roll-back"]))[1]
        assert query["stored"] == "1"
        assert await labels_of(shared, "back") == {"back/0": "fraud"}
        suggestions = (await shared.get("/v1/accounts/back/ask-next")).json()["suggestions"]
        page = text_in(await shown(mia, "/ask-next", id="back"))
        assert page.index(suggestions[0]["transaction"]["transaction_id"]) < page.index("moves by")


async def test_a_note_is_its_persons_and_shown_as_it_was_written(
    shared: httpx.AsyncClient,
) -> None:
    await paid(shared, "noted", 1)
    text = "<img src=x onerror=alert(1)>\n{{7*7}}\u202e"
    async with person(shared, name="mia") as mia, person(shared, "read") as auditor:
        _, query = sent_to(await send(mia, "/note", account="noted", note=text, author="eve"))
        page = await shown(mia, "/account", **query)
        assert "<img src=x" not in page
        assert html.escape("<img src=x onerror=alert(1)>") in page
        assert "{{7*7}}U+202E" in text_in(page)
        [note] = (await shared.get("/v1/accounts/noted/notes")).json()["data"]
        assert (note["author"], note["text"]) == ("mia", text)
        assert (await send(auditor, "/note", account="noted", note="x")).status_code == 403
        assert (await send(mia, "/note", account="noted", note=" ")).status_code == 422
