"""The OpenAPI document: errors as they are, an example for everything, and all of it true."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.http.fields import SENTENCES
from app.http.problems import BY_STATUS, kinds
from app.keys.scopes import SCOPES
from app.learner.validity import DECIMAL_TEXT
from tests.api.callers import openapi_document
from tests.api.contract import RUNS, tried

DOCUMENT = openapi_document()
OPERATIONS = [
    pytest.param(path, operation, id=f"{method.upper()} {path}")
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
operations = pytest.mark.parametrize(("path", "operation"), OPERATIONS)
Content = dict[str, Any]
ANY, EXISTING = RUNS
EXAMPLES = int(os.environ.get("QUICKSTUDY_EXAMPLES", "10"))


def resolved(schema: Content) -> Content:
    """A schema with all that it refers to."""
    return {**schema, "components": DOCUMENT["components"]}


def examples_of(media: Content) -> list[Any]:
    """The examples that a reader is shown: of the medium, or else of its schema."""
    if "example" in media:
        return [media["example"]]
    if "examples" in media:
        return [example["value"] for example in media["examples"].values()]
    schema = media["schema"]
    for part in [schema, *schema.get("anyOf", [])]:
        found = DOCUMENT
        for step in part.get("$ref", "#").split("/")[1:]:
            found = found[step]
        if "examples" in found and found is not DOCUMENT:
            return list(found["examples"])
    return []


def patterns_of(part: Any) -> Iterator[str]:
    """All patterns of a document."""
    if isinstance(part, dict):
        if isinstance(found := part.get("pattern"), str):
            yield found
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from patterns_of(each)


def test_every_pattern_has_a_sentence_for_people() -> None:
    # An amount is checked by code, in words.
    assert set(patterns_of(DOCUMENT)) - {f"^{DECIMAL_TEXT.pattern}$"} == set(SENTENCES)


@operations
def test_every_body_and_every_answer_has_an_example_that_its_schema_allows(
    path: str, operation: Content
) -> None:
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    for part in [*bodies, *operation["responses"].values()]:
        for kind, media in part["content"].items():
            examples = examples_of(media)
            assert examples, (path, kind)
            for example in examples:
                jsonschema_rs.validate(resolved(media["schema"]), example)


@operations
def test_every_operation_describes_itself_its_scope_and_its_errors(
    path: str, operation: Content
) -> None:
    assert operation["description"].endswith(".")
    # Of two, generators make two clients with the same methods.
    assert len(operation["tags"]) == 1
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
    assert len(operation["operationId"]) <= 32
    for parameter in operation.get("parameters", []):
        assert parameter.get("description") or parameter.get("schema", {}).get("title")
    if not path.startswith("/v1"):
        return
    [scopes] = (requirement["api_key"] for requirement in operation["security"])
    assert [scope in SCOPES for scope in scopes] == [True]
    assert {"401", "403", "422", "503"} <= set(operation["responses"])
    for status, response in operation["responses"].items():
        is_answer = status in {"200", "202"}
        expected = {"application/json"} if is_answer else {"application/problem+json"}
        assert set(response["content"]) == expected, (path, status)


def test_the_document_is_valid_by_a_validator_of_others() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def parts(part: Any, place: str = "") -> Iterator[tuple[str, Content]]:
    """Every object of the document that is no value, and where it is."""
    if isinstance(part, dict):
        yield place, part
        for key, inner in part.items():
            if key not in ("example", "examples", "default", "enum"):
                yield from parts(inner, f"{place}/{key}")
    elif isinstance(part, list):
        for position, inner in enumerate(part):
            yield from parts(inner, f"{place}/{position}")


def test_generators_need_not_guess_a_type() -> None:
    for place, part in parts(DOCUMENT):
        if part.get("type") == "number":
            assert part["format"] == "double", place
        if part.get("type") == "integer":
            assert part["format"] in ("int32", "int64"), place
        if part.get("type") == "string" and place.endswith("_at"):
            assert part["format"] == "date-time", place
        # Of a choice between types of JSON they make an empty type.
        if "anyOf" in part:
            options = [option for option in part["anyOf"] if option.get("type") != "null"]
            assert len(options) == 1, place
        # Beside properties it makes them a class of nothing, which does not compile.
        assert not ({"oneOf", "anyOf", "allOf"} & part.keys() and "properties" in part), place
        assert not isinstance(part.get("type"), list), place
        assert "patternProperties" not in part, place


def test_the_document_is_openapi_3_1_and_lists_every_error_code() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]
    assert DOCUMENT["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"
    listed = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert listed == sorted({kind.code for kind in kinds()})
    assert len(listed) == len(kinds())
    assert all(kind.status == status for status, kind in BY_STATUS.items())


@pytest.mark.parametrize(
    ("database_url", "run"),
    [
        ("sqlite", ANY),
        ("postgresql", EXISTING),
        # Each database and each kind of ids has been tried by then.
        pytest.param("sqlite", EXISTING, marks=pytest.mark.torture),
        pytest.param("postgresql", ANY, marks=pytest.mark.torture),
    ],
    indirect=["database_url"],
)
def test_schemathesis_finds_no_server_error_and_no_answer_against_its_schema(
    database_url: str, checkpoint: Path, tmp_path: Path, run: str
) -> None:
    output, failed = tried(database_url, checkpoint, tmp_path, run, EXAMPLES)
    assert not failed, output


def test_what_is_made_is_linked_to_what_can_be_done_with_it() -> None:
    made = DOCUMENT["paths"]["/v1/transactions"]["post"]["responses"]["200"]["links"]
    by_id = {
        operation["operationId"]: name
        for path, item in DOCUMENT["paths"].items()
        for operation in item.values()
        for name in ("transaction_id", "account_id")
        if f"{{{name}}}" in path
    }
    assert len(by_id) > 15
    assert made.keys() == by_id.keys()
    for to, link in made.items():
        assert link == {
            "operationId": to,
            "parameters": {by_id[to]: f"$response.body#/{by_id[to]}"},
        }
    operations = [operation for item in DOCUMENT["paths"].values() for operation in item.values()]
    taking = [
        operation
        for operation in operations
        if any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ()))
    ]
    assert taking == [operation for operation in operations if has_next_page(operation)] != []
    for operation in taking:
        link = operation["responses"]["200"]["links"]["next_page"]
        assert link["parameters"] == {"cursor": "$response.body#/next_cursor"}


def has_next_page(operation: Content) -> bool:
    """Whether what it answers with says how to go on."""
    contents = operation["responses"].get("200", {}).get("content", {})
    schema = contents.get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    return "next_cursor" in DOCUMENT["components"]["schemas"].get(name, {}).get("properties", {})
