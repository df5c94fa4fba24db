"""uvicorn, as `quickstudy serve` and everything else here starts it: `python -m app.server`."""

import uvicorn

from app.logs import configuration
from app.settings import Settings

# Longer than any batch; then connections that still hang are cut.
SHUTDOWN_SECONDS = 10
# A worker that is still loading PyTorch says nothing: uvicorn would end it after 5 s and start
# another, for ever where the machine is busy.
START_SECONDS = 60
# Longer than clients and proxies keep an idle connection, mostly 5 to 60 s: whoever closes first
# must be the one who asks, or a request meets a connection that is just being closed.
KEEP_ALIVE_SECONDS = 75


def serve(settings: Settings) -> None:
    """Serve until a signal ends it; worker processes read the settings from the environment."""
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="app.protocol:BoundedProtocol",
        # There are no WebSockets here, and they would leave the protocol that is bounded.
        ws="none",
        log_config=configuration(settings.log_level),
        access_log=False,
        # Nobody needs to know what serves.
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
    )


if __name__ == "__main__":
    serve(Settings())
