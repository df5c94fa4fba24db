"""Webhooks: signed as others verify them, none lost on a crash, none to private addresses."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from app import store, webhooks
from app.client import Client
from app.database import Database
from app.errors import ValidationFailed
from app.times import now_us
from app.webhooks import EVENTS, Webhooks
from tests.api.requests import posted
from tests.servers import START_SECONDS, new_key, server


class Received(NamedTuple):
    headers: dict[str, str]
    body: str

    def verified(self, secret: str) -> dict[str, Any]:
        told: dict[str, Any] = Verifier(secret).verify(self.body, self.headers)
        return told


class Receiver(BaseHTTPRequestHandler):
    """Takes messages, or answers what it was told to before."""

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


def until(number: int, received: list[Received], seconds: float = 20.0) -> list[Received]:
    """What has come, once so much has."""
    end = time.monotonic() + seconds
    while len(received) < number and time.monotonic() < end:
        time.sleep(0.05)
    assert len(received) >= number
    return received


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
        [model] = [one.name for one in client.models().data if one.active]
        client.activate_model(model)
        told = [one.verified(made.secret) for one in until(4, handler.received)]
        by_type = {one["type"]: one["data"] for one in told}
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
        for one in until(6, handler.received)[4:]:
            assert one.verified(made.secret) == one.verified(rotated.secret)
        # Struck off once it has been answered, which its receiver does not see.
        end = time.monotonic() + 20
        while client.waiting_messages(made.id).data and time.monotonic() < end:
            time.sleep(0.05)
        assert client.waiting_messages(made.id).data == []
        assert made.secret not in str(client.webhooks().model_dump())
        client.remove_webhook(made.id)
        client.label("t-1", "legitimate")
        time.sleep(2 * webhooks.POLL_SECONDS)
        assert len(handler.received) == 6


def test_a_crash_between_commit_and_delivery_loses_no_message(
    database_url: str, checkpoint: Path, receiver: tuple[str, type[Receiver]], allowed: None
) -> None:
    url, handler = receiver
    key = new_key(database_url)
    # While it fails nothing arrives; then the process is killed with all of it undelivered.
    handler.answers[:] = [500] * 10_000
    script = (
        "import sys, os, signal; from tests.servers import server; from app.client import Client; "
        "from tests.api.requests import posted; from pathlib import Path\n"
        f"with server({database_url!r}, Path({str(checkpoint)!r})) as address:\n"
        f"    client = Client(address, {key!r}, timeout=60)\n"
        f"    print(client.create_webhook({url!r}, ['label.changed']).secret, flush=True)\n"
        "    client.score_batch([posted(f't-{n}') for n in range(20)])\n"
        "    for n in range(20): client.label(f't-{n}', 'fraud')\n"
        "    os.killpg(0, signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, start_new_session=True
    )
    secret = done.stdout.strip()
    assert secret.startswith("whsec_"), done.stderr
    assert handler.received == []
    handler.answers.clear()
    asyncio.run(make_due(database_url))
    with server(database_url, checkpoint):
        received = until(20, handler.received, seconds=30)
    told = {one.verified(secret)["data"]["transaction_id"] for one in received}
    assert told == {f"t-{n}" for n in range(20)}


async def make_due(url: str) -> None:
    """As if the waits after failed attempts, and the dead process's leases, were over."""
    database = Database(url)
    try:
        async with database.write() as connection:
            await connection.execute(text("UPDATE outbox SET next_at_us = 0"))
    finally:
        await database.close()


@pytest.mark.anyio
async def test_what_does_not_arrive_is_tried_later_and_later_and_at_last_given_up(
    database: Database, receiver: tuple[str, type[Receiver]]
) -> None:
    url, handler = receiver
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", url, ["model.activated"])
    async with database.write() as connection:
        await webhooks.announce(connection, "t", [("model.activated", {"name": "m"})])
    waits = []
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


@pytest.mark.anyio
async def test_news_of_one_change_wait_in_their_order(database: Database) -> None:
    news: list[webhooks.News] = [("label.changed", {"name": str(n)}) for n in range(9)]
    service = Webhooks(database, allow_private=True)
    made = await service.register("t", "http://127.0.0.1:1/here", ["label.changed"])
    async with database.write() as connection:
        await webhooks.announce(connection, "t", [*news, ("adaptation.done", {"name": "9"})])
        waiting = await store.waiting(connection, "t", made.id, 20)
    assert [json.loads(one.body)["data"]["name"] for one in waiting] == list("012345678")
    assert len({json.loads(one.body)["timestamp"] for one in waiting}) == len(news)


@pytest.mark.anyio
async def test_two_processes_never_deliver_one_message_at_once(
    database: Database, receiver: tuple[str, type[Receiver]]
) -> None:
    url, handler = receiver
    one, other = (Webhooks(database, allow_private=True) for _ in range(2))
    await one.register("t", url, ["model.activated"])
    async with database.write() as connection:
        news: list[webhooks.News] = [("model.activated", {"name": str(n)}) for n in range(50)]
        await webhooks.announce(connection, "t", news)
    end = time.monotonic() + 20
    while len(handler.received) < 50 and time.monotonic() < end:
        await asyncio.gather(one.deliver_due(), other.deliver_due())
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
        "http://8.8.8.8/",
        "ftp://8.8.8.8/",
        "https://",
        "nothing",
        "https://nowhere.invalid/",
        "https://8.8.8.8:99999/",
    ],
)
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
        await webhooks.announce(connection, "t", [("label.changed", {"account_id": "a"})])
    strict = Webhooks(database, allow_private=False)
    assert await strict.deliver_due() == 1
    async with database.read() as connection:
        [row] = (await connection.execute(text("SELECT * FROM outbox"))).all()
    assert "https://" in row.last_error
    assert handler.received == []
