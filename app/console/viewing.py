"""Routes for people who have signed in: what changes something comes from here, by a live session.

Errors are pages. A session is required before anything else of a request is read, and a request
has a place among its tenant's, as one with a key has.
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, ClassVar, cast
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from app.console import browsers, pages, texts
from app.console.browsers import BadForm, NotPrivate
from app.console.records import Viewer
from app.console.sessions import Sessions
from app.errors import Problem
from app.http.authentication import Admission
from app.http.keyed import HeldShare, check_query, in_time, in_turn
from app.http.parts import part, part_of
from app.http.problems import invalid
from app.ops.actor import actor
from app.ops.background import in_a_thread
from app.ops.turns import owner
from app.settings import Settings

logger = logging.getLogger("quickstudy")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
# A POST is followed by a GET, so that going back or reloading repeats nothing.
SEE_OTHER = 303


class OpenRoute(APIRoute):
    """A route of the console for anybody: what changes something still has to come from here."""

    def get_route_handler(self) -> Handler:
        handle = self.handler()

        async def handled(request: Request) -> Response:
            try:
                is_safe = request.method in browsers.SAFE_METHODS
                if not is_safe and not browsers.is_from_here(request):
                    return await error_page(request, 403, *texts.FOREIGN)
                return await handle(request)
            except NotPrivate:
                return await error_page(request, 403, *texts.NOT_PRIVATE)
            except BadForm as error:
                return await error_page(request, 422, texts.BAD_FORM, str(error))
            except RequestValidationError as error:
                return await error_page(
                    request, 422, texts.BAD_ADDRESS, invalid(error.errors()).detail
                )
            except Problem as problem:
                return await error_page(request, problem.status, problem.title, problem.detail)
            except Exception:
                logger.exception("a page of the console failed")
                return await error_page(request, 500, *texts.FAILED)

        return handled

    def handler(self) -> Handler:
        """What answers a request that may be answered."""
        return super().get_route_handler()


class ViewerRoute(OpenRoute):
    """A route for people who have signed in; others are shown where to."""

    # Whether a request is a person's: a session that only its page asks by is idle.
    is_use: ClassVar[bool] = True

    def handler(self) -> Handler:
        handle = super().handler()

        async def handled(request: Request) -> Response:
            viewer = await viewer_of(request, is_use=self.is_use)
            if viewer is None:
                return _to_sign_in(request)
            admission = part_of(request.scope, Admission)
            admission.rates.spend(viewer.caller.key_id)
            actor.set(viewer.caller.key_id)
            owner.set(viewer.tenant)
            request.scope["viewer"] = viewer
            # A filter that nobody applied would show everything.
            check_query(self, request.scope["query_string"])
            with HeldShare(admission, admission.places, viewer.tenant) as place:
                place.take(1)
                answering = handle(request)
                if request.method in browsers.SAFE_METHODS:
                    # Pages hold lists: they take turns with those of the API, for scores' sake.
                    answering = in_turn(admission.lists, answering)
                return await in_time(admission.deadline_seconds, answering)

        return handled


class PollRoute(ViewerRoute):
    """A route that pages ask by themselves, whether anything is new."""

    is_use = False


async def viewer_of(request: Request, is_use: bool = True) -> Viewer | None:
    """Who sends a request, by the session in its cookie; a key in a header counts for nothing."""
    secret = browsers.secret_of(request)
    if secret is None:
        return None
    return await part_of(request.scope, Sessions).viewer(secret, is_use)


async def _viewer(request: Request) -> Viewer:
    return cast(Viewer, request.scope["viewer"])


SignedIn = Annotated[Viewer, Depends(_viewer)]
Cursor = Annotated[str | None, Query(max_length=1000)]
RunningSessions = Annotated[Sessions, part(Sessions)]


def root_of(request: Request) -> str:
    """The path of the console, as browsers are to ask for it."""
    return f"{part_of(request.scope, Settings).prefix}/console"


def place_in(request: Request, text: str) -> str:
    """A path of the console that somebody names to come back to; its beginning where it is none."""
    root = root_of(request)
    is_ours = text == root or text.startswith((f"{root}/", f"{root}?"))
    return text if is_ours and text.isascii() and text.isprintable() else root


async def show(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page of the console, for whoever looks at it."""
    root, viewer = root_of(request), request.scope.get("viewer")
    # Of some milliseconds, and of fifty where a template is new: scores go on meanwhile.
    return await in_a_thread(
        lambda: pages.page(template, status, root=root, viewer=viewer, **values)
    )


def go(request: Request, path: str, **values: object) -> Response:
    """On to another page of the console."""
    address = f"{root_of(request)}{path}{pages.query(**values)}"
    return RedirectResponse(address, SEE_OTHER, headers=browsers.HEADERS)


async def error_page(request: Request, status: int, title: str, detail: str) -> Response:
    """What went wrong, and what to do."""
    return await show(request, "error.html", status, title=title, detail=detail)


def _to_sign_in(request: Request) -> Response:
    """To where to sign in, and back from there to the page that asks, or that a form was on."""
    is_part = "hx-request" in request.headers
    if is_part or request.method not in browsers.SAFE_METHODS:
        page = urlsplit(request.headers.get("hx-current-url" if is_part else "referer", ""))
        path = page.path
    else:
        page = urlsplit(str(request.url))
        path = f"{part_of(request.scope, Settings).prefix}{request.url.path}"
    wanted = place_in(request, f"{path}?{page.query}" if page.query else path)
    address = f"{root_of(request)}/sign-in{pages.query(back=wanted)}"
    if is_part:
        # The whole page is to go there, not the part that sent the request.
        return Response(headers={**browsers.HEADERS, "HX-Redirect": address})
    return RedirectResponse(address, SEE_OTHER, headers=browsers.HEADERS)
