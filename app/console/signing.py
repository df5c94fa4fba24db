"""Signing in and out, and the files that pages are made with."""

import logging
import secrets
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.console import browsers, pages, texts
from app.console.browsers import BadForm
from app.console.records import Viewer
from app.console.viewing import (
    SEE_OTHER,
    OpenRoute,
    RunningSessions,
    SignedIn,
    ViewerRoute,
    error_page,
    go,
    place_in,
    root_of,
    show,
)
from app.errors import ValidationFailed
from app.http.parts import part, part_of
from app.http.problems import Forbidden, Overloaded, RateLimited, Unauthenticated
from app.keys.scopes import DEFAULT_TENANT
from app.people.errors import LinkNotFound, PersonExists, PersonNotFound, WrongPassword
from app.people.flow import Flow, ProviderAway
from app.people.oidc import OpenId
from app.people.records import PERSON
from app.people.routes import RunningPeople
from app.people.service import People

router = APIRouter(prefix="/console", include_in_schema=False, route_class=OpenRoute)
leaving = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

RunningOpenId = Annotated[OpenId, part(OpenId)]

logger = logging.getLogger("quickstudy")

KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
STATIC = {path.name: KINDS[path.suffix] for path in pages.STATIC.iterdir() if path.suffix in KINDS}
# Their address changes with their content.
KEPT = {**browsers.HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}


# What an API key begins with, and no password does.
KEY = "qs_"


@router.get("/sign-in")
async def show_sign_in(request: Request, back: str = "", tenant: str = DEFAULT_TENANT) -> Response:
    """Where people sign in."""
    return await _form(request, place_in(request, back), tenant=tenant)


@router.post("/sign-in")
async def sign_in(request: Request, sessions: RunningSessions, people: RunningPeople) -> Response:
    """Begin a session by a password or an API key, and go where one wanted to."""
    browsers.check_private(request)
    try:
        form = await browsers.form_of(request)
    except BadForm as error:
        return await _form(request, root_of(request), 422, error=str(error))
    back = place_in(request, form.get("back", ""))
    person, proof = form.get("person", ""), form.get("key", "")
    tenant = form.get("tenant") or DEFAULT_TENANT
    try:
        name = browsers.id_in(form, "person", texts.YOUR_NAME)
        if proof.strip().startswith(KEY):
            secret = await sessions.begin(proof.strip(), name)
        else:
            secret = await sessions.begin_of(await people.sign_in(tenant, name, proof))
    except (BadForm, Unauthenticated, Forbidden, RateLimited, Overloaded) as error:
        status = getattr(error, "status", 422)
        message = f"{error} {texts.TRY_AGAIN}"
        return await _form(request, back, status, person, message, tenant)
    return _signed_in(request, back, secret)


@router.get("/sign-in/provider")
async def go_to_provider(
    request: Request, openid: RunningOpenId, back: str = "", tenant: str = DEFAULT_TENANT
) -> Response:
    """To the OpenID provider, which sends the browser back."""
    browsers.check_private(request)
    if openid.provider is None:
        return await error_page(request, 404, *texts.NO_PAGE)
    flow = Flow.begun(place_in(request, back), tenant)
    try:
        address = await openid.provider.address(flow, _return_address(request))
    except ProviderAway as error:
        return await _form_of(request, flow, 503, _away(openid, error))
    response = RedirectResponse(address, SEE_OTHER, headers=browsers.HEADERS)
    browsers.give_cookie(response, request, root_of(request), flow.text, browsers.AWAY)
    return response


@router.get("/sign-in/return")
async def return_from_provider(
    request: Request,
    sessions: RunningSessions,
    people: RunningPeople,
    openid: RunningOpenId,
    code: str = "",
    state: str = "",
) -> Response:
    """Begin a session of the person whom the OpenID provider vouches for."""
    browsers.check_private(request)
    flow = Flow.read(browsers.secret_of(request, browsers.AWAY) or "")
    if (
        openid.provider is None
        or flow is None
        or not secrets.compare_digest(flow.state.encode(), state.encode("utf-8", "surrogatepass"))
    ):
        response = await _form(request, root_of(request), 401, error=texts.NOT_AWAY)
    elif not code:
        refused = texts.PROVIDER_REFUSED.format(provider=openid.name)
        response = await _form_of(request, flow, 401, refused)
    else:
        try:
            email = await openid.provider.email(flow, code, _return_address(request))
            person = await people.of_email(flow.tenant, email)
            secret = await sessions.begin_of(person)
        except ProviderAway as error:
            response = await _form_of(request, flow, 503, _away(openid, error))
        except Unauthenticated as error:
            response = await _form_of(request, flow, 401, str(error))
        else:
            response = _signed_in(request, place_in(request, flow.back), secret)
    browsers.take_cookie(response, request, root_of(request), browsers.AWAY)
    return response


@router.get("/setup")
async def show_set_up(request: Request, people: RunningPeople, token: str = "") -> Response:
    """Where somebody chooses a password, by a link that is good once."""
    return await _set_up_form(request, people, token)


@router.post("/setup")
async def set_up(request: Request, sessions: RunningSessions, people: RunningPeople) -> Response:
    """Choose a password, and be signed in."""
    browsers.check_private(request)
    form = await browsers.form_of(request)
    token, name = form.get("token", ""), form.get("person", "")
    try:
        name = browsers.id_in(form, "person", texts.YOUR_NAME)
        person = await people.set_up(token, form.get("password", ""), name)
    except (BadForm, ValidationFailed, PersonExists) as error:
        return await _set_up_form(request, people, token, name, str(error))
    return _signed_in(request, root_of(request), await sessions.begin_of(person))


@leaving.post("/sign-out")
async def sign_out(request: Request, sessions: RunningSessions) -> Response:
    """End the session."""
    await sessions.end(browsers.secret_of(request) or "")
    response = go(request, "/sign-in")
    browsers.take_cookie(response, request, root_of(request))
    return response


@leaving.get("/password")
async def show_password(request: Request, viewer: SignedIn, changed: bool = False) -> Response:
    """Where somebody changes their own password."""
    return await _password_form(request, viewer, changed=changed)


@leaving.post("/password")
async def change_own_password(
    request: Request, viewer: SignedIn, sessions: RunningSessions, people: RunningPeople
) -> Response:
    """Change one's own password: all sessions end, and this browser has a new one."""
    browsers.check_private(request)
    form = await browsers.form_of(request)
    person_id = viewer.caller.key_id.removeprefix(PERSON)
    try:
        person = await people.change_password(
            viewer.tenant, person_id, form.get("password", ""), form.get("new_password", "")
        )
    except (ValidationFailed, PersonNotFound, WrongPassword, RateLimited, Overloaded) as error:
        message = texts.WRONG_PASSWORD if isinstance(error, WrongPassword) else str(error)
        return await _password_form(request, viewer, error.status, message)
    secret = await sessions.begin_of(person)
    return _signed_in(request, f"{root_of(request)}/password?changed=true", secret)


@router.get("/static/{digest}/{name}")
async def send_file(request: Request, digest: str, name: str) -> Response:
    """A style sheet or a script, which browsers may keep for good."""
    if name not in STATIC or digest != pages.digest_of(name):
        return await error_page(request, 404, *texts.NO_PAGE)
    return FileResponse(pages.STATIC / name, media_type=STATIC[name], headers=KEPT)


def _return_address(request: Request) -> str:
    """Where the provider is to send browsers: it knows the address, and refuses others."""
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host}{root_of(request)}/sign-in/return"


def _away(openid: OpenId, error: ProviderAway) -> str:
    logger.warning("nobody can sign in by the OpenID provider: %s", error)
    return texts.PROVIDER_AWAY.format(provider=openid.name, why=error)


async def _form_of(request: Request, flow: Flow, status: int, error: str) -> Response:
    return await _form(
        request, place_in(request, flow.back), status, error=error, tenant=flow.tenant
    )


def _signed_in(request: Request, back: str, secret: str) -> Response:
    response = RedirectResponse(back, SEE_OTHER, headers=browsers.HEADERS)
    browsers.give_cookie(response, request, root_of(request), secret)
    return response


async def _password_form(
    request: Request, viewer: Viewer, status: int = 200, error: str = "", changed: bool = False
) -> Response:
    return await show(
        request,
        "password.html",
        status,
        is_person=viewer.caller.person is not None,
        changed=changed,
        error=error,
        is_private=browsers.is_private(request),
    )


async def _set_up_form(
    request: Request, people: People, token: str, name: str = "", error: str = ""
) -> Response:
    try:
        person = await people.invited(token)
    except LinkNotFound:
        return await error_page(request, 404, *texts.LINK_ENDED)
    return await show(
        request,
        "set_up.html",
        422 if error else 200,
        token=token,
        person=person.name if person else None,
        name=name,
        error=error,
        is_private=browsers.is_private(request),
    )


async def _form(
    request: Request,
    back: str,
    status: int = 200,
    person: str = "",
    error: str = "",
    tenant: str = DEFAULT_TENANT,
) -> Response:
    return await show(
        request,
        "sign_in.html",
        status,
        back=back,
        person=person,
        tenant=tenant,
        error=error,
        is_private=browsers.is_private(request),
        provider=part_of(request.scope, OpenId).name,
    )
