"""The OpenAPI document, beyond what FastAPI derives: what readers and generated clients need.

Error schemas as they are, examples with their nulls, a `format` on every number and time, and
links: an answer that holds what other operations need says so.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.routing import APIRoute
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.routing import BaseRoute

from app.http.problems import problem_schema

_SERIALIZED: JsonSchemaMode = "serialization"
# Values, whose keys are no keywords of a schema.
_VALUES = frozenset(("default", "enum", "example", "examples"))

# By operation: where its answer always holds a path parameter of others.
LINKED = {
    ("post", "/v1/transactions"): {
        "transaction_id": "/transaction_id",
        "account_id": "/account_id",
    },
    ("get", "/v1/models"): {"name": "/data/0/name"},
    ("post", "/v1/models/{name}/comparisons"): {"name": "/name", "comparison_id": "/id"},
    ("post", "/v1/models/{name}/drift"): {"name": "/name", "drift_id": "/id"},
    ("post", "/v1/keys"): {"key_id": "/id"},
    ("post", "/v1/webhooks"): {"webhook_id": "/id"},
}
CURSOR = "cursor"


def operation_id(route: APIRoute) -> str:
    """The name of a route's function: short, and what generated clients name their methods by."""
    return route.name


def complete(document: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Add to the OpenAPI document of these routes what FastAPI leaves out."""
    schemas = document["components"]["schemas"]
    schemas["Problem"] = problem_schema()
    # FastAPI's own error bodies, which no route answers with.
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    # FastAPI leaves out every null, those of the examples too.
    answers = [route.response_model for route in routes if isinstance(route, APIRoute)]
    models = [(model, _SERIALIZED) for model in answers if model is not None]
    for name, schema in models_json_schema(models)[1]["$defs"].items():
        if "examples" in schema:
            schemas[name]["examples"] = schema["examples"]
    for schema in _schemas_in(document):
        _merge_choice(schema, schemas)
        _add_formats(schema)
    link(document["paths"])


def _schemas_in(part: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document that is no value."""
    if isinstance(part, dict):
        yield part
        for key, inner in part.items():
            if key not in _VALUES:
                yield from _schemas_in(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _schemas_in(inner)


def _merge_choice(schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Describe a choice between objects as one object that has the fields of either.

    Of a choice, generators make a mixture whose fields are all required (TypeScript), or a union
    that takes any object for each of its members (Java).
    """
    branches = schema.get("anyOf", ())
    if branches and all("$ref" in branch for branch in branches):
        members = [schemas[branch["$ref"].rpartition("/")[2]] for branch in branches]
        del schema["anyOf"]
        schema |= {
            "type": "object",
            "description": " Or: ".join(member["description"] for member in members),
            "properties": {k: v for member in members for k, v in member["properties"].items()},
            "required": sorted(set.intersection(*(set(member["required"]) for member in members))),
        }


def _add_formats(schema: dict[str, Any]) -> None:
    """Without a `format` generators choose for themselves: Go takes float32, Java takes int32."""
    if schema.get("type") == "number":
        schema.setdefault("format", "double")
    elif schema.get("type") == "integer":
        schema.setdefault("format", "int64")
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for name, field in properties.items():
            if name.endswith("_at"):
                for branch in (field, *field.get("anyOf", ())):
                    if branch.get("type") == "string":
                        branch.setdefault("format", "date-time")


def link(paths: dict[str, Any]) -> None:
    """Add its links to every operation of an OpenAPI document."""
    for path, item in paths.items():
        for method, operation in item.items():
            pointers = LINKED.get((method, path), {})
            links = {
                other["operationId"]: _to(other, {name: pointers[name]})
                for name in pointers
                for to, its in paths.items()
                for other in its.values()
                if f"{{{name}}}" in to
            }
            if any(parameter["name"] == CURSOR for parameter in operation.get("parameters", ())):
                links["next_page"] = _to(operation, {CURSOR: "/next_cursor"})
            if links:
                answers = operation["responses"]
                answers["200" if "200" in answers else "202"]["links"] = links


def _to(operation: dict[str, Any], pointers: dict[str, str]) -> dict[str, Any]:
    parameters = {name: f"$response.body#{pointer}" for name, pointer in pointers.items()}
    return {"operationId": operation["operationId"], "parameters": parameters}
