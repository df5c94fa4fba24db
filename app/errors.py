"""The errors the service can answer with, and the one place that renders them.

    QuickstudyError
    ├── SetupError                        a sentence for the operator, at start; never an answer
    └── Problem                           an answer, as RFC 9457 application/problem+json
        ├── MalformedBody             400 malformed_body
        ├── MalformedRequest          400 malformed_request
        ├── Unauthenticated           401 unauthenticated
        ├── Forbidden                 403 missing_scope
        ├── NotFound                  404 not_found
        │   ├── AccountNotFound       404 account_not_found
        │   ├── ErasureNotFound       404 erasure_not_found
        │   ├── JobNotFound           404 job_not_found
        │   ├── KeyNotFound           404 key_not_found
        │   ├── LabelNotFound         404 label_not_found
        │   ├── ModelNotFound         404 model_not_found
        │   ├── ReviewNotFound        404 review_not_found
        │   ├── RevisionNotFound      404 revision_not_found
        │   ├── TransactionNotFound   404 transaction_not_found
        │   └── WebhookNotFound       404 webhook_not_found
        ├── MethodNotAllowed          405 method_not_allowed
        ├── RequestTimeout            408 request_timeout
        ├── TransactionConflict       409 transaction_conflict
        ├── ModelRefused              409 model_refused
        ├── ReviewTaken               409 review_taken
        ├── TooFewScores              409 too_few_scores
        ├── BodyTooLarge              413 body_too_large
        ├── UnsupportedEncoding       415 unsupported_encoding
        ├── ExpectationFailed         417 expectation_failed
        ├── ValidationFailed          422 validation_failed
        │   └── WrongAccount          422 transaction_of_another_account
        ├── RateLimited               429 rate_limited
        ├── TooManyJobs               429 too_many_jobs
        ├── TooManyLabels             429 too_many_labels
        ├── HeadersTooLarge           431 headers_too_large
        ├── InternalError             500 internal_error
        └── Unavailable               503 unavailable
            ├── DatabaseUnavailable   503 database_unavailable
            ├── DeadlineExceeded      503 deadline_exceeded
            ├── ModelUnavailable      503 model_unavailable
            └── Overloaded            503 overloaded

`code` is stable and for programs; `title` says what the code means; `detail` is about this case.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

logger = logging.getLogger("quickstudy")

PROBLEM_JSON = "application/problem+json"
# A body of a thousand bad transactions need not be answered with all their errors.
MOST_FIELD_ERRORS = 100
LONGEST_FIELD_NAME = 200
NOT_SAID_TO_BE_JSON = {
    "type": "content_type",
    "loc": ("body",),
    "msg": "a body is JSON, and its Content-Type application/json",
}


class QuickstudyError(Exception):
    """The root of what this project raises on purpose."""


class SetupError(QuickstudyError):
    """The service cannot start, or a command cannot run, for the reason in the sentence."""


class FieldError(NamedTuple):
    """What is wrong with one field of a request."""

    field: str
    message: str


class Problem(QuickstudyError):
    """An error with an HTTP answer. `detail` may name what the caller sent, never internals."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str = "",
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.headers = headers

    def document(self) -> dict[str, Any]:
        """The RFC 9457 document."""
        document: dict[str, Any] = {
            "type": f"urn:quickstudy:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [error._asdict() for error in self.errors]
        return document


class MalformedBody(Problem):
    status, code, title = 400, "malformed_body", "The body cannot be read."


class MalformedRequest(Problem):
    status, code, title = 400, "malformed_request", "This is not HTTP."


class Unauthenticated(Problem):
    status, code, title = 401, "unauthenticated", "A valid API key is needed."


class Forbidden(Problem):
    status, code, title = 403, "missing_scope", "The API key may not do this."


class NotFound(Problem):
    status, code, title = 404, "not_found", "There is nothing at this address."


class AccountNotFound(NotFound):
    code, title = "account_not_found", "No such account."


class ErasureNotFound(NotFound):
    code, title = "erasure_not_found", "No such erasure."


class JobNotFound(NotFound):
    code, title = "job_not_found", "No such comparison, or measurement of drift."


class KeyNotFound(NotFound):
    code, title = "key_not_found", "No such live API key."


class LabelNotFound(NotFound):
    code, title = "label_not_found", "No such label."


class ModelNotFound(NotFound):
    code, title = "model_not_found", "No such model."


class ReviewNotFound(NotFound):
    code, title = "review_not_found", "This transaction is not up for review."


class RevisionNotFound(NotFound):
    code, title = "revision_not_found", "The account never had this revision."


class TransactionNotFound(NotFound):
    code, title = "transaction_not_found", "No such transaction."


class WebhookNotFound(NotFound):
    code, title = "webhook_not_found", "No such webhook."


class MethodNotAllowed(Problem):
    status, code, title = 405, "method_not_allowed", "This address does not know that method."


class RequestTimeout(Problem):
    status, code, title = 408, "request_timeout", "The request took too long to arrive."


class TransactionConflict(Problem):
    status, code = 409, "transaction_conflict"
    title = "This transaction id is taken by a transaction with other content."


class ModelRefused(Problem):
    status, code, title = 409, "model_refused", "This model cannot take that place."


class ReviewTaken(Problem):
    status, code = 409, "review_taken"
    title = "Somebody else has this review, or it is resolved."


class TooManyWebhooks(Problem):
    status, code, title = 409, "too_many_webhooks", "The tenant has as many webhooks as it may."


class TooFewScores(Problem):
    status, code, title = 409, "too_few_scores", "There are too few recent scores to choose by."


class BodyTooLarge(Problem):
    status, code, title = 413, "body_too_large", "The body is too large."

    def __init__(self, detail: str = "") -> None:
        # The rest of the body is not read: this connection can say nothing more.
        super().__init__(detail, headers={"Connection": "close"})


class UnsupportedEncoding(Problem):
    status, code, title = 415, "unsupported_encoding", "The body is compressed."


class ExpectationFailed(Problem):
    status, code, title = 417, "expectation_failed", "The Expect header cannot be met."


class ValidationFailed(Problem):
    status, code, title = 422, "validation_failed", "The request is not valid."


class WrongAccount(ValidationFailed):
    code, title = "transaction_of_another_account", "The transaction belongs to another account."


class RateLimited(Problem):
    status, code, title = 429, "rate_limited", "This API key asks for more than its share."


class HeadersTooLarge(Problem):
    status, code, title = 431, "headers_too_large", "The request line and headers are too large."


class TooManyJobs(Problem):
    status, code = 429, "too_many_jobs"
    title = "Too many comparisons and measurements of drift are waiting."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


class TooManyLabels(Problem):
    status, code = 429, "too_many_labels"
    title = "This key has changed too many labels of this account."


class InternalError(Problem):
    status, code, title = 500, "internal_error", "Something went wrong on our side."


class Unavailable(Problem):
    status, code, title = 503, "unavailable", "The service cannot answer right now."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class DatabaseUnavailable(Unavailable):
    code, title = "database_unavailable", "The database cannot be reached right now."


class DeadlineExceeded(Unavailable):
    code, title = "deadline_exceeded", "The answer would have come too late."


class ModelUnavailable(Unavailable):
    code, title = "model_unavailable", "The tenant's active model cannot be loaded."


class Overloaded(Unavailable):
    code, title = "overloaded", "More is asked than can be answered in time."


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
    if any(one["type"] == "json_invalid" for one in found):
        return MalformedBody(f"The body is not JSON: {found[0]['ctx']['error']}.")
    errors = [
        FieldError(field_name(one["loc"]), str(one["msg"]).removeprefix("Value error, "))
        for one in found[:MOST_FIELD_ERRORS]
    ]
    return ValidationFailed(f"{errors[0].field}: {errors[0].message}", errors)


def _allowed(routes: Sequence[BaseRoute], request: Request) -> str:
    """The methods that the address of a request knows."""
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in here for method in getattr(route, "methods", ())}
    # Where GET is answered, so is HEAD.
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


async def _on_unexpected(_: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it.
    return render(InternalError())


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
        mine = [problem for problem in problems if problem.status == status]
        content = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": {problem.code: {"value": problem().document()} for problem in mine},
        }
        responses[status] = {
            "description": " ".join(f"`{problem.code}`: {problem.title}" for problem in mine),
            "content": {PROBLEM_JSON: content},
        }
    return responses


def kinds(root: type[Problem] = Problem) -> list[type[Problem]]:
    """Every error that has an answer."""
    below = [one for kind in root.__subclasses__() for one in kinds(kind)]
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
