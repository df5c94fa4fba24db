"""All routes of the console."""

from fastapi import APIRouter, Request, Response

from app.console import (
    accounts,
    administration,
    demo,
    figures,
    learning,
    models,
    people,
    queue,
    searching,
    signing,
    texts,
    thresholds,
)
from app.console.viewing import OpenRoute, error_page, go

root = APIRouter(include_in_schema=False, route_class=OpenRoute)
others = APIRouter(prefix="/console", include_in_schema=False, route_class=OpenRoute)


@root.get("/")
async def show_the_way(request: Request) -> Response:
    """To the console, for whoever types the service's address into a browser."""
    return go(request, "")


@others.get("/{path:path}")
async def refuse(request: Request, path: str) -> Response:
    """For addresses below the console that are none; but for its own, with a slash."""
    if not path:
        return go(request, "")
    return await error_page(request, 404, *texts.NO_PAGE)


# The last takes what is left.
ROUTERS = (
    root,
    signing.router,
    signing.leaving,
    queue.router,
    queue.polling,
    accounts.router,
    searching.router,
    learning.router,
    people.router,
    thresholds.router,
    models.router,
    figures.router,
    administration.router,
    demo.router,
    demo.polling,
    others,
)
