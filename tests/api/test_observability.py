"""What operators see: a JSON line a request without anybody's data, and metrics that hold."""

import asyncio
import json
import logging
import logging.config
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.learner.transaction import DAY_US
from app.models.drift import DriftGauges
from app.ops.logs import JsonFormatter, RequestLines, configuration
from app.times import now_us, text_of
from app.web.backlog import Backlog
from tests.api.callers import part_of
from tests.api.requests import label, posted, problem_of

pytestmark = pytest.mark.anyio
MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
CANARY = "canary"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """The log so far, as objects."""
    caplog.set_level(logging.INFO, logger="quickstudy")
    caplog.handler.setFormatter(JsonFormatter())

    async def read() -> list[dict[str, Any]]:
        # Requests are logged when the loop's turn ends.
        await asyncio.sleep(0)
        return [json.loads(line) for line in caplog.text.splitlines() if '"quickstudy' in line]

    return read


async def test_every_request_is_a_line_with_its_id_route_status_and_time(
    edge: httpx.AsyncClient, lines: Any
) -> None:
    answer = await edge.get("/v1/accounts/nobody", headers={"X-Request-Id": "till-7-0001"})
    assert answer.headers["x-request-id"] == "till-7-0001"
    [line] = await lines()
    assert line["request_id"] == "till-7-0001"
    assert (line["method"], line["route"], line["status"]) == (
        "GET",
        "/v1/accounts/{account_id}",
        404,
    )
    assert 0 < line["seconds"] < 60
    assert line["level"] == "info"


async def test_requests_of_one_turn_are_logged_together_each_in_a_line_of_its_own(
    edge: httpx.AsyncClient, lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logged = RequestLines()
    for n in range(3):
        logged.add(f"till-{n}", "GET", "/livez", 200, 0.0012345)
    ids = [line["request_id"] for line in await lines() if line["route"] == "/livez"]
    assert ids == ["till-0", "till-1", "till-2"]
    assert len(caplog.records) == 1
    logged.add("till-4", "GET", "/livez", 200, 0.1)
    assert [line["request_id"] for line in await lines()] == [*ids, "till-4"]


async def test_an_encoded_path_is_logged_by_its_route_too(
    edge: httpx.AsyncClient, lines: Any
) -> None:
    await edge.get("/v1/transactions/a%2Fb")
    [line] = await lines()
    assert line["route"] == "/v1/transactions/{transaction_id}"
    assert (
        'route="/v1/transactions/{transaction_id}",status="404"'
        in (await edge.get("/metrics")).text
    )


@pytest.mark.parametrize("request_id", ["", "short", "x" * 65, 'a"}{"b', "a b c d e f g"])
async def test_an_id_that_could_forge_a_line_is_replaced(
    edge: httpx.AsyncClient, request_id: str
) -> None:
    answer = await edge.get("/livez", headers={"X-Request-Id": request_id})
    replacement = answer.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", replacement)
    assert (await edge.get("/livez")).headers["x-request-id"] != replacement


async def test_nothing_that_callers_send_is_logged_or_measured(
    edge: httpx.AsyncClient, lines: Any
) -> None:
    named = {"account_id": f"{CANARY}-account", "merchant_id": f"{CANARY}-merchant"}
    await edge.post("/v1/transactions", json=posted(f"{CANARY}-id", **named))
    await edge.put(
        f"/v1/transactions/{CANARY}-id/label", json={"label": "fraud", "note": f"{CANARY} note"}
    )
    await edge.post(f"/v1/accounts/{CANARY}-account/labels", json={"labels": [label("nothing")]})
    await edge.get(f"/v1/{CANARY}?{CANARY}={CANARY}", headers={"X-Canary": CANARY})
    await edge.post("/v1/transactions", content=f'{{"{CANARY}": ')
    refused = await edge.get("/v1/accounts", headers={"Authorization": f"Bearer {CANARY}"})
    assert problem_of(refused)[0] == 401
    assert len(await lines()) == 6
    assert CANARY not in json.dumps(await lines())
    assert CANARY not in (await edge.get("/metrics")).text


def test_an_exception_is_one_line_too() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord(
            "quickstudy", logging.ERROR, "", 0, "failed", (), (ValueError, error, None)
        )
    text = JsonFormatter().format(record)
    assert "\n" not in text
    traceback = json.loads(text)["exception"]
    assert traceback.endswith("builtins.ValueError")
    assert "in test_an_exception_is_one_line_too" in traceback


def test_the_configuration_is_one_that_logging_takes(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = configuration("warning")
    chosen["loggers"] = {"quickstudy.tried": chosen["loggers"]["quickstudy"]}
    logging.config.dictConfig(chosen)
    logger = logging.getLogger("quickstudy.tried")
    logger.warning("a warning")
    logger.info("an information")
    logger.handlers.clear()
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["message"] == "a warning"


async def metrics_of(client: httpx.AsyncClient) -> dict[str, Any]:
    await client.post("/v1/transactions", json=posted("m-1", amount=5000))
    await client.put("/v1/transactions/m-1/label", json={"label": "fraud"})
    await client.post("/v1/transactions", json=posted("m-2"))
    text = (await client.get("/metrics")).text
    return {family.name: family for family in text_string_to_metric_families(text)}


async def test_metrics_are_named_by_the_conventions_and_described(edge: httpx.AsyncClient) -> None:
    # https://prometheus.io/docs/practices/naming/: a prefix, base units, _total for counters only.
    ours = {
        name: family
        for name, family in (await metrics_of(edge)).items()
        if name.startswith("quickstudy_")
    }
    assert len(ours) >= 6
    for name, family in ours.items():
        if name.endswith("_created"):
            continue
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|milliseconds|minutes|kb|percent)$", name)
        totals = [sample for sample in family.samples if sample.name.endswith("_total")]
        assert bool(totals) == (family.type == "counter")
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_size"))


async def test_a_batch_is_timed_by_stage_and_the_bank_is_counted(edge: httpx.AsyncClient) -> None:
    found = await metrics_of(edge)
    stages = {sample.labels["stage"] for sample in found["quickstudy_stage_seconds"].samples}
    assert {"load", "features", "adapt", "score", "save"} <= stages
    results = {sample.labels["result"] for sample in found["quickstudy_bank_lookups"].samples}
    assert results == {"found", "made"}


async def test_the_dashboard_and_the_alerts_query_metrics_that_exist(
    edge: httpx.AsyncClient,
) -> None:
    # Drift, and the change of the frauds' share, show with enough transactions, some labelled.
    long_ago = text_of(now_us() - 20 * DAY_US)
    batch = [posted(f"drift-{n}", occurred_at=long_ago) for n in range(100)]
    await edge.post("/v1/transactions/batch", json={"transactions": batch})
    await edge.put("/v1/transactions/drift-1/label", json={"label": "fraud"})
    await part_of(edge, DriftGauges).measure()
    await part_of(edge, Backlog).measure()
    exposed = {
        (sample.name, label)
        for family in (await metrics_of(edge)).values()
        for sample in family.samples
        for label in [*sample.labels, ""]
    }
    folder = MONITORING / "provisioning" / "dashboards"
    dashboard = json.loads((folder / "quickstudy.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= len(dashboard["panels"]) >= 6
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for query in queries + [rule["expr"] for rule in rules]:
        assert set(re.findall(r"quickstudy:[\w:]+", query)) <= recorded
        # Of what others export, and of what is recorded, nothing is exposed here.
        if re.search(r"\b(pg|cnpg|node|up|quickstudy:)", query):
            continue
        names = re.findall(r"quickstudy_\w+", query)
        grouped = re.findall(r"by \(([^)]*)\)", query)
        labels = {part.strip() for group in grouped for part in group.split(",")}
        labels |= set(re.findall(r"(\w+)=~?\"", query))
        assert names
        for name in names:
            assert {(name, label) for label in ["", *(labels - {"le"})]} <= exposed, query
    datasource = yaml.safe_load(
        (MONITORING / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert uids == {source["uid"] for source in datasource["datasources"]}
