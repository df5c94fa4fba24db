"""The query of a request: parameters that a route does not have are refused, as in bodies.

A filter that nobody applied would answer with everything, and a `dry_run` in the wrong place would
be stored.
"""

from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.errors import FieldError, ValidationFailed
from app.http.problems import LONGEST_FIELD_NAME, MOST_FIELD_ERRORS


def check_query(route: APIRoute, query: bytes) -> None:
    """Raises ValidationFailed for parameters that the route does not have, or has only once.

    `query` is what follows the question mark, percent-encoded.
    """
    if not query:
        return
    names, seen = parameters_of(route), set[str]()
    errors: list[FieldError] = []
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in names:
            message = f"unknown query parameter; {_instead(names)}"
        elif name in seen:
            message = "this query parameter is given more than once; send it once"
        else:
            seen.add(name)
            continue
        errors.append(FieldError(name[:LONGEST_FIELD_NAME], message))
    if errors:
        first = errors[0]
        raise ValidationFailed(f"{first.field}: {first.message}", errors[:MOST_FIELD_ERRORS])


def parameters_of(route: APIRoute) -> tuple[str, ...]:
    """The query parameters that a route has, in the order of their names."""
    return tuple(sorted(_names(route.dependant)))


def _names(dependant: Dependant) -> set[str]:
    own = {field.alias for field in dependant.query_params}
    return own.union(*map(_names, dependant.dependencies))


def _instead(names: tuple[str, ...]) -> str:
    if not names:
        return "this route takes none, and what belongs to a body must be sent in the body"
    return f"this route takes {', '.join(names)}"
