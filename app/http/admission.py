"""What bounds the requests of a process: keys, rates, places in the queue, memory, deadlines."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.http.authentication import CHALLENGE, Caller, token_of
from app.http.batching import Batcher
from app.http.problems import Unauthenticated
from app.http.rates import Rates
from app.http.shares import Shares
from app.ops.actor import actor


class Authenticator(Protocol):
    """Tells whom a key speaks for."""

    async def caller_of(self, token: str) -> Caller:
        """Raises Unauthenticated."""

    async def caller_of_id(self, key_id: str) -> Caller:
        """The same, by the id of a key that was proven before. Raises Unauthenticated."""

    def tenant_in_memory(self, token: str) -> str | None:
        """The tenant of a key that need not be looked up; None of any other."""


@dataclass(frozen=True, slots=True)
class Admission:
    """`queue` has the requests that share batches; `places` the others, `bodies` their bytes."""

    authenticator: Authenticator
    rates: Rates
    queue: Batcher[Any, Any]
    bodies: Shares
    places: Shares
    # A list that waits for its turn keeps no connection, and does not make a score wait.
    lists: asyncio.Semaphore
    deadline_seconds: float


async def authenticate(
    admission: Admission, authorization: str | None, scopes: Sequence[str]
) -> Caller:
    """Whom the key in an Authorization header speaks for.

    Raises Unauthenticated, RateLimited, or Forbidden where the key has no such scope.
    """
    token = token_of(authorization or "")
    if token is None:
        raise Unauthenticated(
            "Send an API key in the header Authorization: Bearer qs_…", headers=CHALLENGE
        )
    caller = await admission.authenticator.caller_of(token)
    admission.rates.spend(caller.key_id)
    caller.check(scopes)
    actor.set(caller.key_id)
    return caller
