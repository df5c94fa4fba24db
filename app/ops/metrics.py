"""What Prometheus sees. Labels hold routes and outcomes, never an id of a caller's."""

import os
from functools import cache
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

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
refused_requests = Counter(
    "quickstudy_refused_requests_total", "Requests refused because of overload."
)
drift_psi = Gauge(
    "quickstudy_drift_psi",
    "Population stability index of a feature, or of the score, over four weeks, against the "
    "active model's training data: that of the tenant where it is highest.",
    ("feature",),
    multiprocess_mode="mostrecent",
)
drift_fraud_ratio = Gauge(
    "quickstudy_drift_fraud_ratio",
    "Share of frauds over four weeks, divided by the training data's: that of the "
    "tenant where it has changed most.",
    multiprocess_mode="mostrecent",
)
background_up = Gauge(
    "quickstudy_background_up",
    "1 while a background task succeeds, 0 while it fails or hangs, in whichever process.",
    ("task",),
    multiprocess_mode="livemin",
)
background_failures = Counter(
    "quickstudy_background_failures_total",
    "Errors that ended a run of a background task.",
    ("task",),
)
waiting_reviews = Gauge(
    "quickstudy_waiting_reviews",
    "Open reviews of a kind that do not sleep, 1,000 at most: of the tenant that has most.",
    ("kind",),
    multiprocess_mode="mostrecent",
)
oldest_review_seconds = Gauge(
    "quickstudy_oldest_review_seconds",
    "How long the review of a kind that was opened first has waited, of all tenants.",
    ("kind",),
    multiprocess_mode="mostrecent",
)
overdue_message_seconds = Gauge(
    "quickstudy_overdue_message_seconds",
    "How long ago the webhook message that waits longest should have been sent.",
    multiprocess_mode="mostrecent",
)
overdue_job_seconds = Gauge(
    "quickstudy_overdue_job_seconds",
    "How long ago the job was queued that waits longest for a process.",
    multiprocess_mode="mostrecent",
)
oldest_shadow_seconds = Gauge(
    "quickstudy_oldest_shadow_seconds",
    "How long a checkpoint has been in shadow, of the tenant that has tried one longest.",
    multiprocess_mode="mostrecent",
)
disk_free_ratio = Gauge(
    "quickstudy_disk_free_ratio",
    "Share of the disk of the SQLite file that is free; absent on PostgreSQL.",
    ("volume",),
    multiprocess_mode="mostrecent",
)
model_created_seconds = Gauge(
    "quickstudy_model_created_timestamp_seconds",
    "When the checkpoint was trained that decides where a tenant has activated no other.",
    ("model",),
    multiprocess_mode="livemax",
)
deliveries = Counter(
    "quickstudy_deliveries_total",
    "Attempts to deliver webhook messages: arrived, failed, or given_up for good.",
    ("result",),
)
# From the start: of a counter that appears with its first event, Prometheus sees no increase.
for result in ("arrived", "failed", "given_up"):
    deliveries.labels(result)
batch_size = Histogram(
    "quickstudy_batch_size",
    "Transactions scored together.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Where the worker processes of one server pool their figures; prometheus-client reads it too.
POOL_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


@cache
def labelled(metric: Any, *labels: str | int) -> Any:
    """The part of a metric that has these labels: to look it up takes longer than to add to it."""
    return metric.labels(*labels)


def exposition() -> bytes:
    """The metrics of this server, all of its worker processes together."""
    if POOL_DIRECTORY not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
