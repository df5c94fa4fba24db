"""What a request meets before there is a task for it: its head, and the gate to the queue.

Under overload, what could not be answered in time is refused. A request that is refused costs a
fraction of one that is answered, so the answers that are given stay as many and as quick as they
were. Health and metrics are always let in.
"""

import re
from collections.abc import Collection, Iterable

from app.errors import Problem
from app.http.authentication import Admission, token_of
from app.http.batching import Place
from app.http.problems import ExpectationFailed, MalformedRequest

# Its name in the state of the server.
GATE = "gate"

# Methods and paths of the requests that share batches.
Routes = Collection[tuple[str, str]]
Headers = Iterable[tuple[bytes, bytes]]

# A name or an address, and a port: RFC 3986, 3.2.2. It is empty where there is none.
HOST = re.compile(rb"(\[[0-9A-Za-z:.]+\]|([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?")
# Of two, whoever stands before this service may have gone by the other one (RFC 9110, 5.3).
SINGLE = (b"host", b"authorization", b"content-type")


class Gate:
    """Is shut to a tenant's requests for scores while it may have no more of their queue.

    `protocol.py` asks it when no more than the headers have been read, and before there is a task
    for the request: at ten times the load, refusing is most of the work. Who is refused is counted,
    but has no log line and no request id. Who has come whole has a place before another is let in.
    What does not pass here (another spelling of the address, a key that has to be looked up, a body
    that comes later) asks the queue itself for a place, before its body is parsed.

    A batch takes all that waits, so a bound on what waits is one on how long it takes: who comes
    to a full queue is better off asking another server, or later, than waiting ever longer with
    everyone else (Google's "Site Reliability Engineering", 2016, chapter 21).
    """

    def __init__(self, admission: Admission, scoring: Routes) -> None:
        self._queue = admission.queue
        self._authenticator = admission.authenticator
        self._scoring = {(method.encode(), path.encode()) for method, path in scoring}

    def admit(self, method: bytes, url: bytes, headers: Headers) -> str | None:
        """The tenant whose place a request for a score needs; None where that is not known here.

        Raises Overloaded where it would have none, and where the queue is full and there is no
        key: to say that takes longer.
        """
        if (method, url.partition(b"?")[0]) not in self._scoring:
            return None
        token = token_of(dict(headers).get(b"authorization", b"").decode("latin-1"))
        if token is None:
            if self._queue.is_full:
                self._queue.refuse()
            return None
        tenant = self._authenticator.tenant_in_memory(token)
        if tenant is not None:
            self._queue.check(tenant)
        return tenant

    def enter(self, tenant: str, size: int) -> Place:
        """A place for a request with a body of `size` bytes, which has just been admitted."""
        return self._queue.enter(tenant, size)


def problem_of_head(version: str, headers: Headers) -> Problem | None:
    """Why a request is to be refused by its HTTP version and its headers, whose names are in lower
    case; None where it is not."""
    if version not in ("1.0", "1.1"):
        return MalformedRequest(f"HTTP/{version} is not supported; send HTTP/1.1.")
    names = [name for name, _ in headers]
    for name in SINGLE:
        if names.count(name) > 1:
            return MalformedRequest(
                f"There is more than one {name.decode().title()} header; send one."
            )
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts and version == "1.1":
        return MalformedRequest("There is no Host header; HTTP/1.1 needs one.")
    if hosts and not HOST.fullmatch(hosts[0]):
        return MalformedRequest("The Host header is not valid; send a name or an address.")
    if version == "1.0":
        return None
    # HTTP/1.0 knows no expectations.
    for name, value in headers:
        if name == b"expect" and value.lower() != b"100-continue":
            return ExpectationFailed("Only 100-continue is supported; leave out the Expect header.")
    return None
