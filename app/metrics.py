"""What Prometheus sees. Labels hold routes and outcomes, never an id of a caller's."""

import os
import time

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

request_seconds = Histogram(
    "quickstudy_request_seconds",
    "Time from a request's arrival to the end of its answer.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
scored_transactions = Counter(
    "quickstudy_scored_transactions_total", "Transactions scored.", ("used", "outcome")
)
stage_seconds = Histogram(
    "quickstudy_stage_seconds",
    "Time that a batch of transactions spends in a stage of the pipeline.",
    ("stage",),
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5),
)
bank_lookups = Counter(
    "quickstudy_bank_lookups_total",
    "Accounts with labels whose copy was in the bank, or had to be made.",
    ("result",),
)
adaptations = Counter("quickstudy_adaptations_total", "Copies of the network adapted.")
batch_size = Histogram(
    "quickstudy_batch_size",
    "Transactions scored together.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Where the worker processes of one server pool their figures; prometheus-client reads it too.
POOL_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def exposition() -> bytes:
    """The metrics of this server, all of its worker processes together."""
    if POOL_DIRECTORY not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class RequestMetrics:
    """ASGI middleware that times every request by the template of its route."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500

        async def noting_the_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting_the_status)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - begun
            request_seconds.labels(scope["method"], route, status).observe(seconds)
