"""What the headers of a request must be before anybody heeds them (RFC 9110 and 9112)."""

import re
from collections.abc import Iterable

from app.errors import Problem
from app.http.problems import ExpectationFailed, MalformedRequest

# A name or an address, and a port: RFC 3986, 3.2.2. It is empty where there is none.
HOST = re.compile(rb"(\[[0-9A-Za-z:.]+\]|([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?")


def problem_of_head(version: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Why a request is to be refused by its HTTP version and its headers, whose names are in lower
    case; None where it is not."""
    if version not in ("1.0", "1.1"):
        return MalformedRequest(f"HTTP/{version} is not supported; send HTTP/1.1.")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        return MalformedRequest("There is more than one Host header; send one.")
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
