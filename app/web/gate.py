"""Under overload: refuse at once what could not be answered in time.

A request that is refused costs a fraction of one that is answered, so the answers that are given
stay as many and as quick as they were. Health and metrics are always let in.
"""

from collections.abc import Collection

from app.http.admission import Admission
from app.http.authentication import token_of
from app.http.batching import Place

# Its name in the state of the server.
GATE = "gate"

# Methods and paths of the requests that share batches.
Routes = Collection[tuple[str, str]]


class Gate:
    """Is shut to a tenant's requests for scores while it may have no more of their queue.

    `protocol.py` asks it when no more than the headers have been read, and before there is a task
    for the request: at ten times the load, refusing is most of the work. Who is refused is counted,
    but has no log line and no request id. What does not pass here (another spelling of the address,
    a key that has to be looked up) asks the queue itself for a place, before its body is parsed.

    A batch takes all that waits, so a bound on what waits is one on how long it takes: who comes
    to a full queue is better off asking another server, or later, than waiting ever longer with
    everyone else (Google's "Site Reliability Engineering", 2016, chapter 21).
    """

    def __init__(self, admission: Admission, scoring: Routes) -> None:
        self._batcher = admission.queue
        self._authenticator = admission.authenticator
        self._scoring = {(method.encode(), path.encode()) for method, path in scoring}

    def leads_to(self, method: bytes, url: bytes) -> bool:
        """Whether it is this gate that a request has to pass."""
        return (method, url) in self._scoring

    def check(self, authorization: bytes) -> None:
        """Raises Overloaded where a request with this header would have no place."""
        if (tenant := self._tenant_of(authorization)) is not None:
            self._batcher.check(tenant)

    def enter(self, authorization: bytes, size: int) -> Place | None:
        """A place for a request with a body of `size` bytes, which has come whole.

        None where its key has to be looked up first. Raises Overloaded.
        """
        tenant = self._tenant_of(authorization)
        return None if tenant is None else self._batcher.enter(tenant, size)

    def _tenant_of(self, authorization: bytes) -> str | None:
        """The tenant of a key that is known already.

        Raises Overloaded where the queue is full and this is no key: to say so takes longer.
        """
        token = token_of(authorization.decode("latin-1"))
        if token is None:
            if self._batcher.is_full:
                self._batcher.refuse()
            return None
        return self._authenticator.tenant_in_memory(token)
