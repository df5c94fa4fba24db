"""The errors that every subject builds on; each defines its own in its `errors.py`.

    QuickstudyError
    ├── SetupError        a sentence for the operator, at start; never an answer
    └── Problem           an answer, as RFC 9457 application/problem+json

`code` is stable and for programs; `title` says what the code means; `detail` is about this case.
An error's docstring says what its receiver is to do: docs/errors.md is written from them.
`app.http.problems` makes answers of them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError


class QuickstudyError(Exception):
    """The root of what this project raises on purpose."""


class SetupError(QuickstudyError):
    """The service cannot start, or a command cannot run, for the reason in the sentence."""


def first_problem(error: "ValidationError", whole: str = "") -> str:
    """The first thing that is wrong, after the field's dotted name, or `whole` where it has none.

    For what operators write: specs, rates, checkpoints, settings.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field or whole}: {first['msg'].removeprefix('Value error, ')}"


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


class NotFound(Problem):
    """Check the address; ids must be percent-encoded."""

    status, code, title = 404, "not_found", "No such address."


class ValidationFailed(Problem):
    """Correct the fields that `errors` names."""

    status, code, title = 422, "validation_failed", "The request is not valid."


class Unavailable(Problem):
    """Retry after `Retry-After` seconds."""

    status, code, title = 503, "unavailable", "The service is temporarily unavailable."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "1"})
