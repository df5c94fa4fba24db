"""What HTTP itself can fail with, and the one place where an error becomes an answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from app.db.errors import DatabaseUnavailable
from app.errors import FieldError, NotFound, Problem, Unavailable, ValidationFailed
from app.http.fields import SENTENCES

PROBLEM_JSON = "application/problem+json"
# A body of a thousand bad transactions need not be answered with all their errors.
MOST_FIELD_ERRORS = 100
LONGEST_FIELD_NAME = 200
OTHER_CONTENT_TYPE = {
    "type": "content_type",
    "loc": ("body",),
    "msg": "a body is JSON, and its Content-Type application/json",
}


class MalformedBody(Problem):
    """Correct the JSON of the body."""

    status, code, title = 400, "malformed_body", "The body cannot be read."


class MalformedRequest(Problem):
    """Send HTTP/1.1."""

    status, code, title = 400, "malformed_request", "Malformed HTTP request."


class Unauthenticated(Problem):
    """Send a key that has not been revoked."""

    status, code, title = 401, "unauthenticated", "A valid API key is needed."


class Forbidden(Problem):
    """Use a key that has the scope of the route."""

    status, code, title = 403, "missing_scope", "The API key lacks a scope for this request."


class MethodNotAllowed(Problem):
    """Use a method that `Allow` names."""

    status, code, title = 405, "method_not_allowed", "The method is not allowed at this address."


class RequestTimeout(Problem):
    """Send it again, faster; or raise `QUICKSTUDY_ARRIVAL_SECONDS`."""

    status, code, title = 408, "request_timeout", "The request took too long to arrive."


class BodyTooLarge(Problem):
    """Send less at once, or raise `QUICKSTUDY_MAX_BODY_BYTES`."""

    status, code, title = 413, "body_too_large", "The body is too large."

    def __init__(self, detail: str = "") -> None:
        # The rest of the body is not read: this connection can say nothing more.
        super().__init__(detail, headers={"Connection": "close"})


class UnsupportedEncoding(Problem):
    """Send the body without `Content-Encoding`."""

    status, code, title = 415, "unsupported_encoding", "The body is compressed."


class ExpectationFailed(Problem):
    """Send no `Expect` header but `100-continue`."""

    status, code, title = 417, "expectation_failed", "The Expect header is not supported."


class RateLimited(Problem):
    """Retry after `Retry-After` seconds, or raise `QUICKSTUDY_RATE_PER_SECOND`; each worker of a
    server counts for itself.
    """

    status, code, title = 429, "rate_limited", "The rate limit of this API key is exceeded."


class HeadersTooLarge(Problem):
    """Send at most 32 KiB of request line and headers."""

    status, code, title = 431, "headers_too_large", "The request line and headers are too large."


class InternalError(Problem):
    """Tell the operator of the service; its log has the cause."""

    status, code, title = 500, "internal_error", "Internal server error."


class DeadlineExceeded(Unavailable):
    """Send it again: what was committed in time is stored, the rest is not."""

    code, title = "deadline_exceeded", "The request was not finished before its deadline."


class Overloaded(Unavailable):
    """Retry after `Retry-After` seconds; nothing was stored."""

    code, title = "overloaded", "The service is overloaded; retry later."


# What every route of /v1 may answer.
EVERYWHERE = (
    Unauthenticated,
    Forbidden,
    ValidationFailed,
    RateLimited,
    DatabaseUnavailable,
    DeadlineExceeded,
    Overloaded,
)
BY_STATUS: dict[int, type[Problem]] = {
    400: MalformedBody,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedEncoding,
    422: ValidationFailed,
    429: RateLimited,
    503: Unavailable,
}


def render(problem: Problem) -> Response:
    """The one place where an error becomes an answer."""
    text = json.dumps(problem.document(), ensure_ascii=False, allow_nan=False)
    # What the caller sent may hold lone surrogates, which UTF-8 cannot say.
    return Response(
        text.encode("utf-8", "replace"),
        problem.status,
        headers=problem.headers,
        media_type=PROBLEM_JSON,
    )


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make `app`, which answers on these routes, answer every error through `render`."""

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = BY_STATUS.get(error.status_code, InternalError)
        if kind is MethodNotAllowed:
            # Starlette names the methods of one route, and an address may have several.
            return render(MethodNotAllowed(headers={"Allow": _allowed(routes, request)}))
        return render(kind())

    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return render(error)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return render(invalid(error.errors()))


def invalid(found: Sequence[Mapping[str, Any]]) -> Problem:
    """What Pydantic found wrong with a request, as an answer; bodies are at the place `body`."""
    if any(error["type"] == "json_invalid" for error in found):
        return MalformedBody(f"The body is not JSON: {found[0]['ctx']['error']}.")
    errors = [
        FieldError(field_name(error["loc"]), _message(error)) for error in found[:MOST_FIELD_ERRORS]
    ]
    return ValidationFailed(f"{errors[0].field}: {errors[0].message}", errors)


def _message(error: Mapping[str, Any]) -> str:
    pattern = error.get("ctx", {}).get("pattern")
    return SENTENCES.get(pattern) or str(error["msg"]).removeprefix("Value error, ")


def _allowed(routes: Sequence[BaseRoute], request: Request) -> str:
    """The methods that the address of a request knows."""
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in here for method in getattr(route, "methods", ())}
    # Where GET is answered, so is HEAD.
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


async def _on_unexpected(_: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer: the server logs it and hangs up, which a
    # caller must know who would send the next request there.
    return render(InternalError(headers={"Connection": "close"}))


def field_name(location: Sequence[str | int]) -> str:
    """`("body", "transactions", 3, "amount")` as `transactions[3].amount`."""
    parts = location[1:] if location[:1] == ("body",) and len(location) > 1 else location
    name = ""
    for part in parts:
        name += f"[{part}]" if isinstance(part, int) else f"{'.' if name else ''}{part}"
    return name[:LONGEST_FIELD_NAME]


def documented(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation for OpenAPI: these problems, by their status."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted({problem.status for problem in problems}):
        alike = [problem for problem in problems if problem.status == status]
        content = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": {problem.code: {"value": problem().document()} for problem in alike},
        }
        responses[status] = {
            "description": " ".join(f"`{problem.code}`: {problem.title}" for problem in alike),
            "content": {PROBLEM_JSON: content},
        }
    return responses


def kinds(root: type[Problem] = Problem) -> list[type[Problem]]:
    """Every error that has an answer."""
    below = [problem for kind in root.__subclasses__() for problem in kinds(kind)]
    return below if root is Problem else [root, *below]


def problem_schema() -> dict[str, Any]:
    """The JSON schema of what `render` says."""
    text = {"type": "string"}
    error = {"type": "object", "required": ["field", "message"]}
    return {
        "type": "object",
        "title": "Problem",
        "description": "An error as RFC 9457 describes it; `code` is stable.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": sorted(kind.code for kind in kinds())},
            "detail": text,
            "errors": {
                "type": "array",
                "items": {**error, "properties": {"field": text, "message": text}},
            },
        },
    }
