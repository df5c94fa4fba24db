"""What browsers send and are sent: where a request comes from, forms, the cookie, headers."""

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

from fastapi import Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.http.fields import Id, Note
from app.http.problems import invalid

# All that is loaded is loaded from here, and no page of ours is shown inside another.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # Not `no-referrer`, which also makes browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A report has its styles in itself. In its frame it has no origin, runs nothing, loads nothing.
REPORT_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
}
SAFE_METHODS = frozenset({"GET", "HEAD"})
MOST_FORM_BYTES, MOST_FIELDS = 16 << 10, 20
LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.ASCII)
# Browsers take the first only over https, from this host alone, and for all of its paths.
SECURE_COOKIE, COOKIE = "__Host-qs", "qs"

Checked = TypeVar("Checked", bound=BaseModel)

_ID: TypeAdapter[str] = TypeAdapter(Id)
_NOTE: TypeAdapter[str] = TypeAdapter(Note)


class Cookie(NamedTuple):
    """What its name ends in, and how long it lasts: until the browser is closed, where it is None.

    A session may end before that.
    """

    suffix: str
    seconds: int | None


SESSION = Cookie("", None)
# Of somebody who is at an OpenID provider.
AWAY = Cookie("-away", 600)


class NotPrivate(Exception):
    """Somebody on the way could read what is sent."""


class BadForm(Exception):
    """What a form holds is not what its page has; the argument says what is wrong."""


def is_from_here(request: Request) -> bool:
    """Whether a request that changes something comes from a page of this service.

    Browsers say so in Sec-Fetch-Site, and no page can make them say otherwise. Without it, as in
    older browsers and over plain http, Origin is to name this host.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    return bool(host) and urlsplit(request.headers.get("origin", "")).netloc == host


def is_private(request: Request) -> bool:
    """Whether nobody on the way can read along: over https, or on this machine alone."""
    return _is_secure(request) or bool(LOOPBACK.fullmatch(request.headers.get("host", "")))


def check_private(request: Request) -> None:
    """Raises NotPrivate."""
    if not is_private(request):
        raise NotPrivate


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; raises BadForm where it is too large or no form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM_BYTES:
            raise BadForm(f"The form has more than {MOST_FORM_BYTES >> 10} KiB.")
    try:
        fields = parse_qs(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise BadForm("The form cannot be read.") from None
    form = {name: values[-1] for name, values in fields.items()}
    # No browser sends it, and PostgreSQL can't look for it.
    if any("\0" in value for value in form.values()):
        raise BadForm("The form contains the character U+0000: remove it.")
    return form


def id_in(form: Mapping[str, str], name: str, title: str) -> str:
    """A field that is an id, or a name; raises BadForm."""
    try:
        return _ID.validate_python(form.get(name, "").strip())
    except ValidationError:
        raise BadForm(f"{title}: 1 to 128 printable characters, please.") from None


def note_in(form: Mapping[str, str]) -> str | None:
    """The note, if there is any; raises BadForm."""
    text = form.get("note", "").replace("\r\n", "\n").strip()
    if not text:
        return None
    try:
        return _NOTE.validate_python(text)
    except ValidationError:
        raise BadForm("The note: at most 2,000 characters, and no control characters.") from None


def checked(kind: type[Checked], body: Mapping[str, object]) -> Checked:
    """What a form says, as the API would take it; raises BadForm."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise BadForm(invalid(error.errors()).detail) from None


def in_utc(text: str) -> str:
    """What browsers send of a date and a time, which has no zone: the page says UTC."""
    if len(text) == len("2027-01-01T00:00"):
        text += ":00"
    return text if text.endswith("Z") or "+" in text else f"{text}Z"


def secret_of(request: Request, cookie: Cookie = SESSION) -> str | None:
    """The text in a cookie of the request; of a session, its secret."""
    return request.cookies.get(_name_of(request, cookie))


def give_cookie(
    response: Response, request: Request, root: str, secret: str, cookie: Cookie = SESSION
) -> None:
    """Hand the browser a text, for as long as the cookie lasts."""
    scope = _scope(request, root)
    response.set_cookie(_name_of(request, cookie), secret, cookie.seconds, **scope)  # type: ignore[arg-type]


def take_cookie(response: Response, request: Request, root: str, cookie: Cookie = SESSION) -> None:
    """Make the browser forget it."""
    response.delete_cookie(_name_of(request, cookie), **_scope(request, root))  # type: ignore[arg-type]


def _name_of(request: Request, cookie: Cookie) -> str:
    """By how the request came."""
    return f"{SECURE_COOKIE if _is_secure(request) else COOKIE}{cookie.suffix}"


def _scope(request: Request, root: str) -> dict[str, object]:
    is_secure = _is_secure(request)
    return {
        "path": "/" if is_secure else root,
        "secure": is_secure,
        "httponly": True,
        # Strict would show who follows a link from a chat or a mail the sign-in page: nothing is
        # changed by following a link.
        "samesite": "lax",
    }


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"
