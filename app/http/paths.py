"""Ids in paths: percent-encoded, so that an id may hold a slash and still be one segment."""

from typing import Annotated
from urllib.parse import unquote

from fastapi import Path
from pydantic import BeforeValidator
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import FieldError, ValidationFailed
from app.http.fields import Id
from app.learner.entities import canonical
from app.learner.spec import EntityKind as Kind


class EncodedSlashes:
    """ASGI middleware: decodes each segment of the path, but leaves `/` and `%` in it encoded.

    Servers decode the whole path, and then `a%2Flabel` and `a/label` look the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"%" in scope.get("raw_path", b""):
            raw = scope["raw_path"].partition(b"?")[0].decode("latin-1")
            # In place: what is around it reads the route from the same scope afterwards.
            scope["path"] = "/".join(map(_segment, raw.split("/")))
        await self.app(scope, receive, send)


def _segment(raw: str) -> str:
    # What is no UTF-8 becomes U+FFFD, which no id of ours has been stored under by accident.
    return unquote(raw).replace("%", "%25").replace("/", "%2F")


def decoded(segment: object) -> object:
    """A segment without what the middleware left; other texts have neither."""
    if isinstance(segment, str):
        return segment.replace("%2F", "/").replace("%25", "%")
    return segment


AccountId = Annotated[
    Id,
    BeforeValidator(decoded),
    Path(description="Percent-encoded: an id may hold a slash.", examples=["a-17"]),
]
EntityId = Annotated[
    Id,
    BeforeValidator(decoded),
    Path(description="Percent-encoded: an id may hold a slash.", examples=["d-9f2c"]),
]
EntityKind = Annotated[
    Kind, Path(description="device, ip, card, email, merchant, or another.", examples=["device"])
]
ErasureId = Annotated[
    Id,
    BeforeValidator(decoded),
    Path(description="Of a certificate.", examples=["5f0c8a9d1b2e3f4a5b6c7d8e"]),
]
TransactionId = Annotated[
    Id,
    BeforeValidator(decoded),
    Path(description="Percent-encoded: an id may hold a slash.", examples=["t-1001"]),
]


def stored_entity(kind: str | None, id_: str | None) -> tuple[str, str] | None:
    """An entity's kind, and its id as it is stored; None for neither.

    Raises ValidationFailed for one without the other, too.
    """
    if kind is None and id_ is None:
        return None
    if kind is None or id_ is None:
        raise _refused("entity_kind" if kind is None else "entity_id", "send a kind and an id")
    return kind, stored_id(kind, id_)


def stored_id(kind: str, id_: str) -> str:
    """An entity's id as it is stored; raises ValidationFailed for what is no id of the kind."""
    try:
        return canonical(kind, id_)
    except ValueError as error:
        raise _refused("entity_id", str(error)) from None


def _refused(name: str, message: str) -> ValidationFailed:
    return ValidationFailed(f"{name}: {message}", [FieldError(name, message)])
