"""uvicorn, as `quickstudy serve` and everything else here starts it: `python -m app.web.server`."""

import ctypes
import os
import signal
import socket
import sys
from typing import Any, cast

import uvicorn
from uvicorn.supervisors import Multiprocess

from app.ops.logs import configuration
from app.settings import Settings

# Longer than any batch; then connections that still hang are cut.
SHUTDOWN_SECONDS = 10
# A worker that is still loading PyTorch says nothing: uvicorn would end it after 5 s and start
# another, for ever where the machine is busy.
START_SECONDS = 60
# Longer than clients and proxies keep an idle connection, mostly 5 to 60 s: whoever closes first
# must be the one who asks, or a request meets a connection that is just being closed.
KEEP_ALIVE_SECONDS = 75
# Of Linux's prctl(2): which signal a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


def serve(settings: Settings) -> None:
    """Serve until a signal ends it; worker processes read the settings from the environment."""
    options: dict[str, Any] = {
        "app": "app.main:create_app",
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "http": "app.web.protocol:BoundedProtocol",
        # There are no WebSockets here, and they would leave the protocol that is bounded.
        "ws": "none",
        "log_config": configuration(settings.log_level),
        "access_log": False,
        # Nobody needs to know what serves.
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
        "timeout_worker_healthcheck": START_SECONDS,
    }
    # Worker processes would look for modules in the folder that this one runs in, first of all.
    os.environ["PYTHONSAFEPATH"] = "1"
    # Elsewhere the system does not spread connections over such sockets.
    if settings.workers > 1 and sys.platform == "linux":
        config = uvicorn.Config(**options)
        own = cast(socket.socket, OwnSocket(config))
        Multiprocess(config, [own]).run()
    else:
        uvicorn.run(**options)


class OwnSocket:
    """Becomes a socket of its own in each worker process that it is sent to, on one address.

    Of a socket that all of them share, whoever wakes first takes every connection that has come,
    and callers keep them: one worker would do everything while the others look on. Between sockets
    of their own the system spreads connections (socket(7), SO_REUSEPORT).
    """

    def __init__(self, config: uvicorn.Config) -> None:
        # Not to be shared: whoever has the address already makes this fail, in a sentence.
        with config.bind_socket() as probe:
            self._family, self._address = probe.family, probe.getsockname()

    def __reduce__(self) -> tuple[Any, ...]:
        return _bound, (self._family, self._address, os.getpid())


def _bound(family: int, address: Any, supervisor: int) -> socket.socket:
    _end_with(supervisor)
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    return listener


def _end_with(supervisor: int) -> None:
    """Have the system end this worker process once that one is gone, however it ended.

    Workers that were left behind would write to a SQLite file whose lock is free, and keep the port
    from the next server. It is the supervisor's main thread that starts workers, and lasts as long.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # It was gone before.
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve(Settings())
