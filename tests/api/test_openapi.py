"""The OpenAPI document: errors as they are, an example for everything, and all of it true."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from app.client import Client
from app.errors import BY_STATUS, kinds
from app.main import create_app
from app.scopes import SCOPES
from app.settings import Settings
from tests.api.requests import posted
from tests.servers import new_key, server

DOCUMENT = create_app(Settings(database_url="sqlite:///unused.db")).openapi()
OPERATIONS = [
    pytest.param(path, operation, id=f"{method.upper()} {path}")
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
operations = pytest.mark.parametrize(("path", "operation"), OPERATIONS)
Content = dict[str, Any]


def resolved(schema: Content) -> Content:
    """A schema with all that it refers to."""
    return {**schema, "components": DOCUMENT["components"]}


def examples_of(media: Content) -> list[Any]:
    """The examples that a reader is shown: of the medium, or else of its schema."""
    if "example" in media:
        return [media["example"]]
    if "examples" in media:
        return [one["value"] for one in media["examples"].values()]
    schema = media["schema"]
    for one in [schema, *schema.get("anyOf", [])]:
        found = DOCUMENT
        for step in one.get("$ref", "#").split("/")[1:]:
            found = found[step]
        if "examples" in found and found is not DOCUMENT:
            return list(found["examples"])
    return []


@operations
def test_every_body_and_every_answer_has_an_example_that_its_schema_allows(
    path: str, operation: Content
) -> None:
    told = [operation["requestBody"]] if "requestBody" in operation else []
    for part in [*told, *operation["responses"].values()]:
        for kind, media in part["content"].items():
            examples = examples_of(media)
            assert examples, (path, kind)
            for example in examples:
                jsonschema_rs.validate(resolved(media["schema"]), example)


@operations
def test_every_operation_says_what_it_does_who_may_and_how_it_fails(
    path: str, operation: Content
) -> None:
    assert operation["description"].endswith(".")
    assert operation["tags"]
    for parameter in operation.get("parameters", []):
        assert parameter.get("description") or parameter.get("schema", {}).get("title")
    if not path.startswith("/v1"):
        return
    [scopes] = (one["API key"] for one in operation["security"])
    assert [scope in SCOPES for scope in scopes] == [True]
    assert {"401", "403", "422", "503"} <= set(operation["responses"])
    for status, response in operation["responses"].items():
        expected = {"application/json"} if status == "200" else {"application/problem+json"}
        assert set(response["content"]) == expected, (path, status)


def test_the_document_is_openapi_3_1_and_lists_every_error_code() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]
    assert DOCUMENT["components"]["securitySchemes"]["API key"]["scheme"] == "bearer"
    listed = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert listed == sorted({kind.code for kind in kinds()})
    assert len(listed) == len(kinds())
    assert all(kind.status == status for status, kind in BY_STATUS.items())


@pytest.fixture
def lively(database_url: str, checkpoint: Path) -> Iterator[tuple[str, str]]:
    """A server that knows the ids of the document's examples, and a key to it."""

    key = new_key(database_url)
    with server(database_url, checkpoint) as url, Client(url, key) as client:
        client.set_thresholds(review=1e-6, decline=0.999)
        client.score_batch([posted(f"t-100{n}", account_id="a-17") for n in range(3)])
        client.label("t-1001", "fraud")
        yield url, key


# Which of an address's ids exist decides how deep a request gets: in one run whichever comes, in
# the other those that do, of an account that is not erased meanwhile.
EXISTING = """
[parameters]
"path.account_id" = "a-17"
"path.transaction_id" = "t-1001"
"path.revision" = 1
"""
# No schema can say how far a time may lie ahead of now, or whose a transaction is. And there may
# be a transaction `batch`: its address knows GET, which the schema tells under another path.
EVERY = """
[checks]
positive_data_acceptance.enabled = false

[[operations]]
include-path = "/v1/transactions/batch"
checks.allow_header_conformance.enabled = false
"""
RUNS = {
    "any ids": ("", ()),
    "existing ids": (EXISTING, ("--exclude-operation-id-regex", "^erase_account")),
}


@pytest.mark.parametrize("run", RUNS)
def test_schemathesis_finds_no_server_error_and_no_answer_against_its_schema(
    lively: tuple[str, str], tmp_path: Path, run: str
) -> None:
    url, key = lively
    config, options = RUNS[run]
    (tmp_path / "schemathesis.toml").write_text(config + EVERY)
    command = [
        *("--config-file", str(tmp_path / "schemathesis.toml")),
        *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}", *options),
        *("--max-examples", os.environ.get("QUICKSTUDY_EXAMPLES", "10"), "--seed", "1"),
        "--generation-database=none",
        "--no-color",
    ]
    script = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run([script, *command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
