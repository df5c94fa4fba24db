"""Webhooks: signed as others verify them, none lost on a crash, none to private addresses."""

import asyncio
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from app.db.database import Database
from app.errors import ValidationFailed
from app.ops import metrics
from app.times import now_us
from app.webhooks import service as webhooks
from app.webhooks import store as webhook_store
from app.webhooks.errors import TooManyWebhooks
from app.webhooks.records import Message, Webhook
from app.webhooks.service import EVENTS, Webhooks
from quickstudy_client import Client
from tests.api.requests import posted
from tests.conftest import mainly
from tests.receivers import HOSTILE, Receivers, receivers
from tests.servers import START_SECONDS, new_key, server, server_process


class Received(NamedTuple):
    headers: dict[str, str]
    body: str

    def verified(self, secret: str) -> dict[str, Any]:
        event: dict[str, Any] = Verifier(secret).verify(self.body, self.headers)
        return event


class Receiver(BaseHTTPRequestHandler):
    """Takes messages, or answers by the script that it was set to."""

    answers: list[int]
    received: list[Received]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.answers.pop(0) if self.answers else 204
        if status < 300:
            self.received.append(Received(headers, body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    kind = type("Here", (Receiver,), {"answers": [], "received": []})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}/here", kind
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_WEBHOOKS_PRIVATE", "true")


def until(number: int, received: list[Received], seconds: float = 60.0) -> list[Received]:
    """What has come, once so much has."""
    end = time.monotonic() + seconds
    while len(received) < number and time.monotonic() < end:
        time.sleep(0.05)
    assert len(received) >= number
    return received


@mainly("sqlite")
def test_events_arrive_signed_as_an_independent_library_verifies_them(
    database_url: str, checkpoint: Path, receiver: tuple[str, type[Receiver]], allowed: None
) -> None:
    url, handler = receiver
    key = new_key(database_url)
    with (
        server(database_url, checkpoint) as address,
        Client(address, key, timeout=START_SECONDS) as client,
    ):
        made = client.create_webhook(url, EVENTS)
        client.set_thresholds(review=1e-8, decline=0.999)
        client.score(posted("t-1"))
        client.label("t-1", "fraud")
        client.label("t-1", "fraud")
        [model] = [item.name for item in client.models().data if item.active]
        client.activate_model(model)
        events = [webhook.verified(made.secret) for webhook in until(4, handler.received)]
        by_type = {entry["type"]: entry["data"] for entry in events}
        assert sorted(by_type) == sorted(EVENTS)
        assert by_type["transaction.flagged"]["outcome"] == "review"
        assert by_type["label.changed"] == {
            "transaction_id": "t-1",
            "account_id": "alice",
            "label": "fraud",
        }
        assert by_type["adaptation.done"]["revision"] == 1
        assert by_type["model.activated"]["name"] == model
        with pytest.raises(WebhookVerificationError):
            handler.received[0]._replace(body="{}").verified(made.secret)

        rotated = client.rotate_webhook(made.id)
        assert rotated.secret != made.secret
        client.remove_label("t-1")
        for webhook in until(6, handler.received)[4:]:
            assert webhook.verified(made.secret) == webhook.verified(rotated.secret)
        # Struck off once it has been answered, which its receiver does not see.
        end = time.monotonic() + 60
        while client.waiting_messages(made.id).data and time.monotonic() < end:
            time.sleep(0.05)
        assert client.waiting_messages(made.id).data == []
        assert made.secret not in str(client.webhooks().model_dump())
        client.remove_webhook(made.id)
        client.label("t-1", "legitimate")
        time.sleep(2 * webhooks.POLL_SECONDS)
        assert len(handler.received) == 6


@mainly("postgresql")
def test_a_crash_between_commit_and_delivery_loses_no_message(
    database_url: str, checkpoint: Path, receiver: tuple[str, type[Receiver]], allowed: None
) -> None:
    url, handler = receiver
    key = new_key(database_url)
    # While it fails nothing arrives; then the process is killed with all of it undelivered.
    handler.answers[:] = [500] * 10_000
    with server_process(database_url, checkpoint) as service:
        with Client(service.url, key, timeout=START_SECONDS) as client:
            secret = client.create_webhook(url, ["label.changed"]).secret
            client.score_batch([posted(f"t-{n}") for n in range(20)])
            for n in range(20):
                client.label(f"t-{n}", "fraud")
        service.kill()
        assert handler.received == []
        handler.answers.clear()
        asyncio.run(make_due(database_url))
        service.start()
        received = until(20, handler.received, seconds=30)
    delivered = {webhook.verified(secret)["data"]["transaction_id"] for webhook in received}
    assert delivered == {f"t-{n}" for n in range(20)}


async def make_due(url: str) -> None:
    """As if the waits after failed attempts, and the dead process's leases, were over."""
    database = Database(url)
    try:
        async with database.write() as connection:
            await connection.execute(text("UPDATE outbox SET next_at_us = 0"))
    finally:
        await database.close()


def deliveries() -> dict[str, float]:
    """How many deliveries the metrics have counted, by result."""
    return {
        sample.labels["result"]: sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name == "quickstudy_deliveries_total"
    }


@pytest.mark.anyio
async def test_what_does_not_arrive_is_tried_later_and_later_and_at_last_dropped(
    database: Database, receiver: tuple[str, type[Receiver]]
) -> None:
    url, handler = receiver
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", url, ["model.activated"])
    async with database.write() as connection:
        await webhook_store.announce(connection, "t", [("model.activated", {"name": "m"})])
    waits = []
    before = deliveries()
    for attempt in range(len(webhooks.DELAYS_SECONDS) + 1):
        handler.answers[:] = [500 if attempt % 2 else 302]
        before_us = now_us()
        assert await service.deliver_due() == 1
        assert await service.deliver_due() == 0
        async with database.write() as connection:
            [row] = (await connection.execute(text("SELECT * FROM outbox"))).all()
            await connection.execute(text("UPDATE outbox SET next_at_us = 1"))
        if row.next_at_us is not None:
            waits.append((row.next_at_us - before_us) / 1e6)
    assert row.next_at_us is None
    assert row.last_error == "answered 302"
    assert handler.received == []
    for wait, delay in zip(waits, webhooks.DELAYS_SECONDS, strict=True):
        assert delay <= wait <= delay * (1 + webhooks.JITTER) + 5
    assert json.loads(row.body)["data"] == {"name": "m"}
    assert made.events == "model.activated"
    tried = {result: count - before[result] for result, count in deliveries().items()}
    assert tried == {"arrived": 0, "failed": len(webhooks.DELAYS_SECONDS), "given_up": 1}
    async with database.write() as connection:
        await webhook_store.announce(connection, "t", [("model.activated", {"name": "m"})])
    handler.answers[:] = [200]
    assert await service.deliver_due() == 1
    # The one that was given up is due again above.
    assert deliveries()["arrived"] == before["arrived"] + 2


@pytest.mark.anyio
async def test_news_of_one_change_wait_in_their_order(database: Database) -> None:
    news: list[webhook_store.News] = [("label.changed", {"name": str(n)}) for n in range(9)]
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", "http://127.0.0.1:1/here", ["label.changed"])
    async with database.write() as connection:
        await webhook_store.announce(connection, "t", [*news, ("adaptation.done", {"name": "9"})])
        waiting = await webhook_store.waiting(connection, "t", made.id, 20)
    assert [json.loads(review.body)["data"]["name"] for review in waiting] == list("012345678")
    assert len({json.loads(review.body)["timestamp"] for review in waiting}) == len(news)


@pytest.mark.anyio
async def test_two_processes_never_deliver_one_message_at_once(
    database: Database, receiver: tuple[str, type[Receiver]]
) -> None:
    url, handler = receiver
    first, other = (Webhooks(database, allow_private=True) for _ in range(2))
    await first.register("t", url, ["model.activated"])
    async with database.write() as connection:
        news: list[webhook_store.News] = [("model.activated", {"name": str(n)}) for n in range(50)]
        await webhook_store.announce(connection, "t", news)
    end = time.monotonic() + 60
    while len(handler.received) < 50 and time.monotonic() < end:
        await asyncio.gather(first.deliver_due(), other.deliver_due())
        await asyncio.sleep(0.01)
    ids = [message.headers["webhook-id"] for message in handler.received]
    assert (len(ids), len(set(ids))) == (50, 50)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://192.168.1.1:8443/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[fe80::1%25lo]/",
        "https://[::ffff:a00:1]:8443/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://127.1/",
        "https://localhost./",
        "http://8.8.8.8/",
        "ftp://8.8.8.8/",
        "https://",
        "nothing",
        "https://nowhere.invalid/",
        "https://8.8.8.8:99999/",
    ],
)
# Before the database is queried.
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_private_addresses_and_what_is_no_address_are_refused(
    database: Database, url: str
) -> None:
    service = Webhooks(database, allow_private=False)
    with pytest.raises(ValidationFailed, match=r"^url: "):
        await service.register("t", url, ["label.changed"])


@pytest.mark.anyio
async def test_a_name_that_has_become_private_is_not_delivered_to(
    database: Database, receiver: tuple[str, type[Receiver]]
) -> None:
    url, handler = receiver
    lax = Webhooks(database, allow_private=True)
    await lax.register("t", url, ["label.changed"])
    async with database.write() as connection:
        await webhook_store.announce(connection, "t", [("label.changed", {"account_id": "a"})])
    strict = Webhooks(database, allow_private=False)
    assert await strict.deliver_due() == 1
    async with database.read() as connection:
        [row] = (await connection.execute(text("SELECT * FROM outbox"))).all()
    assert "https://" in row.last_error
    assert handler.received == []


@pytest.fixture(scope="module")
def receiving() -> Iterator[Receivers]:
    with receivers() as some:
        yield some


async def announced(database: Database, tenant: str, number: int, account_id: str = "a") -> None:
    """So many messages for each of a tenant's webhooks."""
    news: list[webhook_store.News] = [
        ("label.changed", {"name": str(n), "account_id": account_id}) for n in range(number)
    ]
    async with database.write() as connection:
        await webhook_store.announce(connection, tenant, news)


async def outbox_of(database: Database, webhook_id: str) -> list[Message]:
    async with database.read() as connection:
        return await webhook_store.waiting(connection, "t", webhook_id, 1000)


async def state_of(database: Database, webhook_id: str) -> Webhook:
    async with database.read() as connection:
        found = await webhook_store.webhook(connection, "t", webhook_id)
    assert found is not None
    return found


@pytest.mark.alone
@mainly("sqlite")
@pytest.mark.parametrize("tenants", [1, pytest.param(8, marks=pytest.mark.torture)])
def test_no_receiver_keeps_another_waiting_nor_takes_the_services_memory(
    database_url: str, checkpoint: Path, allowed: None, receiving: Receivers, tenants: int
) -> None:
    hostile = [new_key(database_url, f"hostile-{n}") for n in range(tenants)]
    receiving.arrived.clear()
    with (
        server_process(database_url, checkpoint) as service,
        Client(service.url, new_key(database_url, "other"), timeout=START_SECONDS) as other,
    ):
        other.create_webhook(receiving.url("good-other"), ["label.changed"])
        other.score_batch([posted(f"t-{n}") for n in range(6)])
        other.label("t-5", "fraud")
        wait_for(lambda: len(receiving.arrived) == 1)
        process = psutil.Process(service.process.pid)
        before = process.memory_info().rss
        for key in hostile:
            with Client(service.url, key, timeout=START_SECONDS) as client:
                for path in HOSTILE:
                    client.create_webhook(receiving.url(path), ["label.changed"])
                client.create_webhook(receiving.url("good-own"), ["label.changed"])
                client.score_batch([posted(f"t-{n}", account_id=f"a-{n}") for n in range(200)])
                labels = [{"transaction_id": f"t-{n}", "label": "fraud"} for n in range(200)]
                client.label_batch(labels)
        wait_for(lambda: all(receiving.requests[path] for path in HOSTILE))
        most = before
        for n in range(5):
            begun = time.monotonic()
            number = len(of_path(receiving, "good-other"))
            other.label(f"t-{n}", "fraud")
            while len(of_path(receiving, "good-other")) == number:
                most = max(most, process.memory_info().rss)
                assert time.monotonic() - begun < 5
                time.sleep(0.02)
        wait_for(lambda: len(of_path(receiving, "good-own")) == 200 * tenants)
        most = max(most, process.memory_info().rss)
    assert most - before < 50 << 20


def of_path(receiving: Receivers, path: str) -> list[bytes]:
    return [body for found, _, body in list(receiving.arrived) if found == path]


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "failure"),
    [
        ("endless", "answered 500"),
        ("compressed", "answered 500"),
        ("dripping", "no answer within 1 s"),
        ("silent", "no answer within 1 s"),
        ("headers", "its headers are too long"),
        ("continuing", "its headers are too long"),
    ],
)
async def test_a_receiver_that_does_not_end_has_one_deadline_and_its_status_is_enough(
    database: Database,
    receiving: Receivers,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    failure: str,
) -> None:
    # The one that continues takes a moment to say more than may be read.
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 20.0 if "headers" in failure else 1.0)
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", receiving.url(path), ["label.changed"])
    await announced(database, "t", 9)
    async with asyncio.timeout(60):
        # A receiver that drips sees only at its next byte that the test before has hung up.
        while receiving.open[path]:
            await asyncio.sleep(0.05)
        receiving.most_open.clear()
        assert await service.deliver_due() == 1
    tried = [row for row in await outbox_of(database, made.id) if row.attempts]
    assert len(tried) == webhooks.MESSAGES_OF_A_LANE
    assert all(failure in (answer.last_error or "") for answer in tried)
    assert receiving.most_open[path] <= webhooks.MESSAGES_OF_A_LANE


@pytest.mark.anyio
async def test_tenants_and_receivers_take_turns_where_lanes_are_few(
    database: Database, receiving: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "LANES", 8)
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 10.0)
    receiving.arrived.clear()
    service = Webhooks(database, allow_private=True)
    for tenant, path, number in (("t", "silent", 9), ("u", "silent", 9), ("v", "good", 1)):
        for _ in range(number):
            await service.register(tenant, receiving.url(path), ["label.changed"])
    for tenant in "tu":
        await announced(database, tenant, 20)
    async with service:
        wait_until = asyncio.get_running_loop().time() + 30
        while receiving.open["silent"] < 8 and asyncio.get_running_loop().time() < wait_until:
            await asyncio.sleep(0.05)
        # Another tenant, which comes last, finds room.
        await announced(database, "v", 1)
        async with asyncio.timeout(5):
            while not of_path(receiving, "good"):
                await asyncio.sleep(0.02)
    assert receiving.most_open["silent"] <= 8 * webhooks.MESSAGES_OF_A_LANE


@pytest.mark.anyio
async def test_a_receiver_that_is_gone_disables_its_webhook_until_it_is_enabled(
    database: Database, receiving: Receivers
) -> None:
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", receiving.url("gone"), ["label.changed"])
    await announced(database, "t", 1)
    receiving.answers["gone"] = "410 Gone"
    await service.deliver_due()
    disabled = await state_of(database, made.id)
    assert disabled.disabled_at_us is not None
    assert disabled.disabled_reason == "answered 410"
    # What comes meanwhile is for nobody; what has waited is kept.
    await announced(database, "t", 3)
    await make_due_of(database)
    assert await service.deliver_due() == 0
    assert len(await outbox_of(database, made.id)) == 1
    receiving.answers.clear()
    receiving.arrived.clear()
    await service.enable("t", made.id)
    assert await service.deliver_due() == 1
    assert len(of_path(receiving, "gone")) == 1
    assert await outbox_of(database, made.id) == []


async def make_due_of(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE outbox SET next_at_us = 1"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "least", "most", "pauses"),
    [
        ("503 No\r\nRetry-After: 90", 90, 95, True),
        ("429 No\r\nRetry-After: {soon}", 70, 95, True),
        ("429 No\r\nRetry-After: 999999999", 3600, 3605, True),
        ("429 No\r\nRetry-After: 99999999999999999999", 5, 12, False),
        ("503 No\r\nRetry-After: 1", 5, 12, True),
        ("503 No\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT", 5, 12, False),
        ("503 No\r\nRetry-After: soon", 5, 12, False),
        ("500 No\r\nRetry-After: 90", 5, 12, False),
    ],
)
async def test_retry_after_is_heeded_within_bounds(
    database: Database, receiving: Receivers, answer: str, least: float, most: float, pauses: bool
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    receiving.answers["busy"] = answer.format(soon=soon)
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", receiving.url("busy"), ["label.changed"])
    await announced(database, "t", 9)
    begun_us = now_us()
    assert await service.deliver_due() == 1
    ended_us = now_us()
    rows = [row for row in await outbox_of(database, made.id) if row.attempts]
    assert rows
    for row in rows:
        assert row.next_at_us is not None
        assert row.next_at_us - ended_us <= most * 1e6
        assert row.next_at_us - begun_us >= least * 1e6
    # The messages that have not been tried wait as well.
    assert await service.deliver_due() == (not pauses)


@pytest.mark.anyio
async def test_what_is_erased_while_it_is_being_delivered_is_not_stored_again(
    database: Database, receiving: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 2.0)
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", receiving.url("silent"), ["label.changed"])
    await announced(database, "t", 1, account_id="erased")
    receiving.requests.clear()
    delivering = asyncio.create_task(service.deliver_due())
    while not receiving.requests["silent"]:
        await asyncio.sleep(0.02)
    async with database.write() as connection:
        await webhook_store.erase_messages(connection, "t", "erased")
    await delivering
    assert await outbox_of(database, made.id) == []


@pytest.mark.anyio
async def test_a_webhook_whose_attempts_could_not_be_stored_is_delivered_to_again(
    database: Database, receiving: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 2.0)
    failed = failures_of_webhooks()
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", receiving.url("silent"), ["label.changed"])
    await announced(database, "t", 1)
    receiving.requests.clear()
    receiving.arrived.clear()
    delivering = asyncio.create_task(service.deliver_due())
    async with asyncio.timeout(10):
        while not receiving.requests["silent"]:
            await asyncio.sleep(0.02)
    # An error of the database that comes between the attempt and its result.
    await changed(database, "ALTER TABLE outbox RENAME TO away")
    assert await delivering == 1
    await changed(database, "ALTER TABLE away RENAME TO outbox")
    assert failures_of_webhooks() == failed + 1
    async with database.write() as connection:
        await webhook_store.change_webhook(connection, "t", made.id, url=receiving.url("good"))
    await make_due_of(database)
    assert await service.deliver_due() == 1
    assert len(of_path(receiving, "good")) == 1
    assert await outbox_of(database, made.id) == []


def failures_of_webhooks() -> float:
    """How many errors the metrics have counted of the task that delivers."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name == "quickstudy_background_failures_total"
        and sample.labels["task"] == "webhooks"
    )


async def changed(database: Database, statement: str) -> None:
    async with database.write() as connection:
        await connection.execute(text(statement))


@pytest.mark.anyio
async def test_messages_of_a_webhook_that_was_removed_meanwhile_are_deleted(
    database: Database, receiving: Receivers
) -> None:
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", receiving.url("good"), ["label.changed"])
    await announced(database, "t", 3)
    async with database.write() as connection:
        await connection.execute(text("DELETE FROM webhooks"))
    assert await service.deliver_due() == 0
    assert await outbox_of(database, made.id) == []


@pytest.mark.anyio
async def test_a_tenant_has_so_many_webhooks_and_no_more(
    database: Database, receiving: Receivers
) -> None:
    service = Webhooks(database, allow_private=True)
    url = receiving.url("good")
    made = [
        await service.register("t", url, ["label.changed"])
        for _ in range(webhooks.MOST_WEBHOOKS - 1)
    ]
    # Of some that come at once, one.
    more = (service.register("t", url, ["label.changed"]) for _ in range(webhooks.MOST_LOOKUPS))
    answers = await asyncio.gather(*more, return_exceptions=True)
    assert sum(isinstance(answer, TooManyWebhooks) for answer in answers) == len(answers) - 1
    with pytest.raises(TooManyWebhooks, match="remove one first"):
        await service.register("t", url, ["label.changed"])
    await service.register("u", url, ["label.changed"])
    await service.remove("t", made[0].id)
    await service.register("t", url, ["label.changed"])


@pytest.mark.anyio
async def test_certificates_are_verified_for_the_hosts_name(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    strangers = Webhooks(database, allow_private=True)
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", f"https://user:word@localhost:{port}/in?a=b", EVENTS)
    await announced(database, "t", 1)
    await strangers.deliver_due()
    [row] = await outbox_of(database, made.id)
    assert row.last_error == "TLS: self-signed certificate"
    # The authorities are read at the first delivery.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    await make_due_of(database)
    await service.deliver_due()
    assert await outbox_of(database, made.id) == []
    [head] = seen
    assert head.startswith(b"POST /in?a=b HTTP/1.1\r\n")
    assert f"host: localhost:{port}\r\n".encode() in head.lower()
    assert b"authorization: Basic dXNlcjp3b3Jk\r\n" in head
    # Not for any other name.
    await service.remove("t", made.id)
    made = await service.register("t", f"https://127.0.0.1:{port}/", EVENTS)
    await announced(database, "t", 1)
    await service.deliver_due()
    [row] = await outbox_of(database, made.id)
    assert (row.last_error or "").startswith("TLS: IP address mismatch")
    listening.close()
    await listening.wait_closed()
