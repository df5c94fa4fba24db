"""Python client of the Quickstudy API: one method an operation, typed answers, safe retries.

    with Client("http://127.0.0.1:8000", key) as quickstudy:
        score = quickstudy.score({"transaction_id": "t-1", ...})

`AsyncClient` has the same methods, awaited. Bodies are dictionaries or the models of
`quickstudy_client.models`; ids may hold any character. What the service refuses raises ApiError.
"""

from quickstudy_client.asynchronous import AsyncClient
from quickstudy_client.synchronous import Client
from quickstudy_client.transport import LIMITS, ApiError
from quickstudy_client.types import Page

__all__ = ["LIMITS", "ApiError", "AsyncClient", "Client", "Page"]
