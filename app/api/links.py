"""Links of the OpenAPI document: an answer that holds what other operations ask for says so."""

from typing import Any

# By operation: where its answer always holds a path parameter of others.
GIVEN = {
    ("post", "/v1/transactions"): {
        "transaction_id": "/transaction_id",
        "account_id": "/account_id",
    },
    ("get", "/v1/models"): {"name": "/data/0/name"},
    ("post", "/v1/keys"): {"key_id": "/id"},
    ("post", "/v1/webhooks"): {"webhook_id": "/id"},
}
CURSOR = "cursor"


def link(paths: dict[str, Any]) -> None:
    """Add its links to every operation of an OpenAPI document."""
    for path, item in paths.items():
        for method, operation in item.items():
            given = GIVEN.get((method, path), {})
            links = {
                other["operationId"]: _to(other, {name: given[name]})
                for name in given
                for to, its in paths.items()
                for other in its.values()
                if f"{{{name}}}" in to
            }
            if any(one["name"] == CURSOR for one in operation.get("parameters", ())):
                links["next_page"] = _to(operation, {CURSOR: "/next_cursor"})
            if links:
                operation["responses"]["200"]["links"] = links


def _to(operation: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    parameters = {name: f"$response.body#{pointer}" for name, pointer in given.items()}
    return {"operationId": operation["operationId"], "parameters": parameters}
