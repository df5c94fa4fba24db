"""Signing in and out, and the files that pages are made with."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.console import browsers, pages, texts
from app.console.browsers import BadForm
from app.console.viewing import (
    SEE_OTHER,
    OpenRoute,
    RunningSessions,
    ViewerRoute,
    error_page,
    go,
    place_in,
    root_of,
    show,
)
from app.http.problems import Forbidden, Unauthenticated

router = APIRouter(prefix="/console", include_in_schema=False, route_class=OpenRoute)
leaving = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
STATIC = {path.name: KINDS[path.suffix] for path in pages.STATIC.iterdir() if path.suffix in KINDS}
# Their address changes with their content.
KEPT = {**browsers.HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}


@router.get("/sign-in")
async def show_sign_in(request: Request, back: str = "") -> Response:
    """Where people sign in."""
    return await _form(request, place_in(request, back))


@router.post("/sign-in")
async def sign_in(request: Request, sessions: RunningSessions) -> Response:
    """Begin a session by an API key, and go where one wanted to."""
    if not browsers.is_private(request):
        return await error_page(request, 403, *texts.NOT_PRIVATE)
    form = await browsers.form_of(request)
    back = place_in(request, form.get("back", ""))
    person = form.get("person", "")
    try:
        name = browsers.id_in(form, "person", texts.YOUR_NAME)
        secret = await sessions.begin(form.get("key", "").strip(), name)
    except (BadForm, Unauthenticated, Forbidden) as error:
        status = getattr(error, "status", 422)
        return await _form(request, back, status, person, f"{error} {texts.TRY_AGAIN}")
    response = RedirectResponse(back, SEE_OTHER, headers=browsers.HEADERS)
    browsers.give_cookie(response, request, root_of(request), secret)
    return response


@leaving.post("/sign-out")
async def sign_out(request: Request, sessions: RunningSessions) -> Response:
    """End the session."""
    await sessions.end(browsers.secret_of(request) or "")
    response = go(request, "/sign-in")
    browsers.take_cookie(response, request, root_of(request))
    return response


@router.get("/static/{digest}/{name}")
async def send_file(request: Request, digest: str, name: str) -> Response:
    """A style sheet or a script, which browsers may keep for good."""
    if name not in STATIC or digest != pages.digest_of(name):
        return await error_page(request, 404, *texts.NO_PAGE)
    return FileResponse(pages.STATIC / name, media_type=STATIC[name], headers=KEPT)


async def _form(
    request: Request, back: str, status: int = 200, person: str = "", error: str = ""
) -> Response:
    return await show(
        request,
        "sign_in.html",
        status,
        back=back,
        person=person,
        error=error,
        is_private=browsers.is_private(request),
    )
