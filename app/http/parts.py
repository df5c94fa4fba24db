"""How a route is handed the part of the running service that it needs, by that part's type.

A route names what it needs, and not the service that holds everything: the service knows all
subjects, and no subject knows the service.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request
from starlette.types import Scope

from app.db.database import Database
from app.ops.background import TaskHealth

Part = TypeVar("Part")


class Service:
    """A running service: its parts, each found by its type, and its tasks in the background."""

    def __init__(self, parts: Iterable[object], background: Sequence[TaskHealth]) -> None:
        self._parts = {type(part): part for part in parts}
        self.background = background

    def part(self, kind: type[Part]) -> Part:
        """The one part of a type; raises KeyError where there is none."""
        found = self._parts[kind]
        assert isinstance(found, kind)
        return found


def part_of(scope: Scope, kind: type[Part]) -> Part:
    """A part of the service that answers the request of an ASGI scope."""
    return cast(Service, scope["app"].state.service).part(kind)


def part(kind: type[Any]) -> Any:
    """The dependency that hands a route a part, as in `Annotated[Jobs, part(Jobs)]`."""

    # FastAPI calls what is not asynchronous in a thread: a hop for every request.
    async def dependency(request: Request) -> Any:
        return part_of(request.scope, kind)

    return Depends(dependency)


RunningDatabase = Annotated[Database, part(Database)]
