"""Bodies of FastAPI's own routes, read as strictly as those of the lean ones, in the same words."""

from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json

from app.errors import NOT_SAID_TO_BE_JSON, invalid


class JSONRoute(APIRoute):
    """A route whose body Pydantic's core parses.

    Python's own parser also takes UTF-16, a mark before the text and halves of characters.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(_JSONRequest(request.scope, request.receive))
            except RequestValidationError as error:
                # Only what is not said to be JSON comes this far unparsed.
                if isinstance(error.body, bytes):
                    raise invalid([NOT_SAID_TO_BE_JSON]) from None
                raise

        return handled


class _JSONRequest(Request):
    async def json(self) -> Any:
        try:
            return from_json(await self.body())
        except ValueError as error:
            # The only exception that FastAPI takes for a body that is not JSON.
            raise JSONDecodeError(str(error), "", 0) from None
