"""Tracing: spans arrive at a collector, inside the caller's trace, and hold nobody's data."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.api.requests import posted
from tests.conftest import mainly
from tests.servers import START_SECONDS, new_key, server

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(HTTPServer):
    """What OTLP over HTTP is sent to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[ExportTraceServiceRequest] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Collector)
        self.server.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not on the terminal of the tests."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


@mainly("sqlite")
@pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
def test_a_request_and_the_stages_of_its_batch_are_spans(
    database_url: str, checkpoint: Path, collector: Collector, is_on: bool
) -> None:
    headers = {
        "Authorization": f"Bearer {new_key(database_url)}",
        "traceparent": f"00-{TRACE}-{CALLER}-01",
    }
    variables = {
        "QUICKSTUDY_TRACING": str(is_on).lower(),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_SERVICE_NAME": "till-scoring",
    }
    with server(database_url, checkpoint, **variables) as url:
        body = posted("canary-id", account_id="canary-account")
        answer = httpx.post(
            f"{url}/v1/transactions", json=body, headers=headers, timeout=START_SECONDS
        )
        assert answer.status_code == 200, answer.text
    # What was not sent yet is sent when the server ends.
    resources = [
        resource_span for request in collector.received for resource_span in request.resource_spans
    ]
    spans = [
        span for resource in resources for scope in resource.scope_spans for span in scope.spans
    ]
    if not is_on:
        assert spans == []
        return
    assert "till-scoring" in str(resources[0].resource)
    assert "canary" not in str(collector.received)
    [span_] = [span for span in spans if span.name == "POST /v1/transactions"]
    assert (span_.trace_id.hex(), span_.parent_span_id.hex()) == (TRACE, CALLER)
    attributes = {attribute.key: attribute.value for attribute in span_.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["quickstudy.request_id"].string_value == answer.headers["x-request-id"]
    [batch] = [span for span in spans if span.name == "batch"]
    stages = {span.name: span for span in spans if span.parent_span_id == batch.span_id}
    assert stages.keys() == {"load", "features", "adapt", "explain", "save"}
    # What a payment is answered decides what it counts as for the next one's features.
    [scoring] = [span for span in spans if span.name == "score"]
    assert scoring.parent_span_id == stages["features"].span_id
