"""Labels by file over HTTP: each row answered alone, previewed first, and sent again safely."""

import json
from typing import Any

import httpx
import pytest

from app.labels.schemas import LabelsImported
from tests.api.requests import NOON, posted, problem_of
from tests.api.test_labels import history, put, score

pytestmark = pytest.mark.anyio

COUNTS = ("stored", "changed", "unchanged", "superseded", "not_yet_known")


async def bring(client: httpx.AsyncClient, *lines: str, **query: str) -> dict[str, Any]:
    answer = await client.post(
        "/v1/labels/import",
        content="\n".join(lines),
        headers={"Content-Type": "text/csv"},
        params=query,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    rows = sum(found[name] for name in COUNTS) + len(found["unmatched"]) + len(found["refused"])
    assert rows == found["rows"], "every row has one place in the answer"
    return found


def counts(found: dict[str, Any]) -> dict[str, int]:
    return {name: found[name] for name in COUNTS if found[name]}


async def labels(client: httpx.AsyncClient, *keys: str) -> list[Any]:
    return [(await history(client, key))["label"] for key in keys]


async def test_a_file_is_stored_as_if_each_label_were_put(client: httpx.AsyncClient) -> None:
    await score(client, posted("a"), posted("b"), posted("c", account_id="bob"), posted("d"))
    await put(client, "d", "legitimate")
    file = (
        "transaction,label,date",
        "a,fraud,2026-02-03T09:30:00+01:00",
        "b,0,2026-02-03",
        "nobody,fraud,2026-02-03",
        "",
        "c,TRUE,1770111000",
    )
    tried = await bring(client, *file, dry_run="true")
    assert await labels(client, "a", "b", "c") == [None, None, None]
    assert (await client.get("/v1/accounts/alice")).json()["revision"] == 1
    done = await bring(client, *file)
    assert {**tried, "dry_run": False} == done
    assert counts(done) == {"stored": 3}
    assert done["unmatched"] == [{"row": 3, "line": 4, "transaction_id": "nobody"}]
    assert await labels(client, "a", "b", "c", "d") == [
        *("fraud", "legitimate", "fraud", "legitimate")
    ]
    [event] = (await history(client, "a"))["history"]
    assert (event["labelled_at"], event["source"]) == ("2026-02-03T08:30:00.000000Z", "chargeback")
    log = (await client.get("/v1/audit-log?action=label.set&account_id=bob")).json()["data"]
    assert [entry["subject"] for entry in log] == ["c"]
    again = await bring(client, *file)
    assert counts(again) == {"unchanged": 3}
    assert (await client.get("/v1/accounts/alice")).json()["revision"] == 2


async def test_of_two_labels_the_one_known_later_stands(client: httpx.AsyncClient) -> None:
    await score(client, *(posted(key) for key in "abcd"))
    await put(client, "a", "legitimate", labelled_at="2026-02-01T00:00:00Z")
    await put(client, "b", "legitimate", labelled_at="2026-02-20T00:00:00Z")
    done = await bring(
        client,
        "date,transaction,label",
        "2026-02-10,a,fraud",
        "2026-02-10,b,fraud",
        "2090-01-01,c,fraud",
        # In the file, in any order: reported, cleared, and reported again.
        "2026-02-12,d,legitimate",
        "2026-02-13,d,fraud",
        "2026-02-11,d,fraud",
        source="dispute",
    )
    assert counts(done) == {"stored": 1, "changed": 1, "superseded": 3, "not_yet_known": 1}
    assert await labels(client, *"abcd") == ["fraud", "legitimate", None, "fraud"]
    [event] = (await history(client, "d"))["history"]
    assert (event["labelled_at"], event["source"]) == ("2026-02-13T00:00:00.000000Z", "dispute")


async def test_without_dates_labels_are_known_now(client: httpx.AsyncClient) -> None:
    await score(client, posted("a"), posted("b"))
    await put(client, "a", "legitimate")
    assert counts(await bring(client, "transaction,label", "a,fraud", "b,fraud")) == {
        "changed": 1,
        "stored": 1,
    }
    [event] = (await history(client, "b"))["history"]
    assert event["labelled_at"] == event["recorded_at"]


async def test_what_is_wrong_is_named_by_row_column_and_value(shared: httpx.AsyncClient) -> None:
    await score(shared, posted("r-1"), posted("r-2"), posted("r-3"))
    done = await bring(
        shared,
        "transaction,label,date",
        "r-1,stolen,2026-02-03",
        'r-1,fraud,"31.02.2026"',
        "r-1,fraud,1899-12-31T23:59:59Z",
        "r-1,fraud,20260203",
        "r-1,fraud",
        "r-1,fraud,2026-02-03,more",
        ",fraud,2026-02-03",
        "r\x01,fraud,2026-02-03",
        f"{'r' * 129},fraud,2026-02-03",
        '"r-2\n",fraud,2026-02-03',
        "r-2,fraud,2026-02-03",
        "r-2,legitimate,2026-02-03",
    )
    assert counts(done) == {"stored": 1}
    refusals = [
        (refusal["row"], refusal["column"], refusal["value"]) for refusal in done["refused"]
    ]
    assert refusals == [
        (1, "label", "stolen"),
        (2, "date", "31.02.2026"),
        (3, "date", "1899-12-31T23:59:59Z"),
        (4, "date", "20260203"),
        (5, "date", None),
        (6, None, None),
        (7, "transaction", ""),
        (8, "transaction", "r\x01"),
        (9, "transaction", "r" * 128),
        (10, "transaction", "r-2\n"),
        (12, "label", "legitimate"),
    ]
    # A quoted field may hold a line break: the line is where its row ends.
    assert [refusal["line"] for refusal in done["refused"]][-2:] == [12, 14]
    messages = [refusal["message"] for refusal in done["refused"]]
    assert "fraud or legitimate" in messages[0]
    assert "whole seconds since 1970" in messages[1]
    assert "1970 to 2100" in messages[2]
    assert "4 fields and the header 3" in messages[5]
    assert "control characters" in messages[7]
    assert "row 11 has the other label" in messages[-1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Field required"),
        (b"\n", 'no column "transaction"'),
        (
            b"a,b\n1,2",
            "unknown column 'a': without a spec the columns are transaction, label and date",
        ),
        (b"transaction,date\nt,2026-02-03", 'no column "label"'),
        (b"transaction,label,label\nt,1,1", 'several columns "label"'),
        (b'transaction,label\n"t,1\n', "line 2: unexpected end of data"),
        (b"transaction,label\nt,1\nt\xe9,1\n", "line 3: the file is not UTF-8"),
        (b"," * 1_000_000, "the header has 1,000,001 columns, more than 1,000"),
        (b"transaction,label\n" + b"t,1\n" * 1001, "more than 1,000 rows"),
        (b"transaction,label\n" + b"\n" * 3000, "more than 1,000 rows"),
        (b"transaction,label\n" + b"t" * 200_000, "field larger than field limit"),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused_whole(
    edge: httpx.AsyncClient, content: bytes, words: str
) -> None:
    refused = await edge.post(
        "/v1/labels/import", content=content, headers={"Content-Type": "text/csv"}
    )
    assert problem_of(refused) == (422, "validation_failed")
    assert words in refused.json()["detail"]


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl", "text/csv"])
async def test_a_file_may_be_json_with_an_object_a_line(
    shared: httpx.AsyncClient, media_type: str
) -> None:
    name = media_type.partition("/")[2]
    await score(shared, *(posted(f"{name}-{n}") for n in range(4)))
    rows = [
        {"transaction": f"{name}-0", "label": "fraud", "date": "2026-02-03"},
        {"date": 1770111000, "label": 1, "transaction": f"{name}-1"},
        {"transaction": f"{name}-2", "label": "stolen", "date": "2026-02-03"},
        {"transaction": f"{name}-3", "label": False, "date": None},
        {"transaction": "nobody", "label": False, "date": "2026-02-03"},
    ]
    answer = await shared.post(
        "/v1/labels/import",
        content="\ufeff" + "\n".join(map(json.dumps, rows)),
        headers={"Content-Type": media_type},
    )
    done = answer.json()
    assert counts(done) == {"stored": 2}
    refusals = [(row["line"], row["column"], row["value"]) for row in done["refused"]]
    assert refusals == [(3, "label", "stolen"), (4, "date", "")]
    assert [row["line"] for row in done["unmatched"]] == [5]
    [event] = (await history(shared, f"{name}-1"))["history"]
    assert (event["label"], event["labelled_at"]) == ("fraud", "2026-02-03T09:30:00.000000Z")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"transaction": "t", "label": 1}', '{"transaction": "t'], "line 2: it is not JSON"),
        (
            ['{"transaction": "t", "fraud": 1}'],
            "unknown column 'fraud': without a spec the columns are",
        ),
        (
            ['{"transaction": "t", "label": 1}', '{"transaction": "t", "label": 1, "date": 1}'],
            "line 2: 'date' is not in the first object, which names the columns",
        ),
        (['{"transaction": "t", "label": 1}'] * 1001, "more than 1,000 rows"),
    ],
)
async def test_lines_of_json_that_make_no_sense_are_refused_whole(
    edge: httpx.AsyncClient, lines: list[str], words: str
) -> None:
    refused = await edge.post(
        "/v1/labels/import",
        content="\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert problem_of(refused) == (422, "validation_failed")
    assert words in refused.json()["detail"]


async def test_half_a_character_in_a_line_of_json_is_refused_with_its_row(
    shared: httpx.AsyncClient,
) -> None:
    content = (
        r'{"transaction": "\ud83d", "label": "fraud"}'
        "\n"
        r'{"transaction": "nobody", "label": "\udc00"}'
    )
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await shared.post("/v1/labels/import", content=content, headers=headers)
    refused = [(row["row"], row["column"], row["value"]) for row in answer.json()["refused"]]
    assert refused == [(1, "transaction", "?"), (2, "label", "?")]


async def test_a_document_of_json_is_no_file_of_labels(edge: httpx.AsyncClient) -> None:
    for body in ({"labels": [{"transaction_id": "t", "label": "fraud"}]}, [], 7, "t,fraud", None):
        refused = await edge.post("/v1/labels/import", json=body)
        assert problem_of(refused) == (422, "validation_failed")


async def test_a_wrong_parameter_is_refused_in_its_own_words(edge: httpx.AsyncClient) -> None:
    for query, field in (("source=rumour", "query.source"), ("dryrun=true", "dryrun")):
        refused = await edge.post(
            f"/v1/labels/import?{query}",
            content="transaction,label\nt,1",
            headers={"Content-Type": "text/csv"},
        )
        assert problem_of(refused) == (422, "validation_failed")
        assert refused.json()["errors"][0]["field"] == field


async def test_a_byte_order_mark_and_windows_line_ends_are_read(shared: httpx.AsyncClient) -> None:
    await score(shared, posted("w-1"), posted("w-2"))
    done = await bring(shared, "\ufefftransaction,label\r", "w-1,fraud\r", '"w-2",fraud\r')
    assert counts(done) == {"stored": 2}


async def test_too_many_labels_of_an_account_are_refused_row_by_row(
    shared: httpx.AsyncClient,
) -> None:
    ids = [f"m-{n}" for n in range(201)]
    for first in range(0, 201, 100):
        await score(shared, *(posted(key, account_id="many") for key in ids[first : first + 100]))
    await score(shared, posted("few", account_id="few"))
    file = ("transaction,label", *(f"{key},fraud" for key in ids), "few,fraud")
    for dry_run in ("true", "false"):
        done = await bring(shared, *file, dry_run=dry_run)
        assert counts(done) == {"stored": 1}
        assert {refusal["code"] for refusal in done["refused"]} == {"too_many_labels"}
        assert [refusal["value"] for refusal in done["refused"]] == ids


async def test_what_is_of_another_tenant_is_of_no_transaction(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient
) -> None:
    await score(shared, posted("mine", occurred_at=NOON))
    done = await bring(shared_stranger, "transaction,label", "mine,fraud")
    assert [row["transaction_id"] for row in done["unmatched"]] == ["mine"]
    assert await labels(shared, "mine") == [None]


def test_the_example_of_the_answer_adds_up() -> None:
    example = LabelsImported.model_json_schema()["examples"][0]
    listed = len(example["unmatched"]) + len(example["refused"])
    assert sum(example[name] for name in COUNTS) + listed == example["rows"]
