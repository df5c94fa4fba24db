"""What callers send reaches nobody else: not by logs, metrics, errors or others' answers."""

import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import make_url

from tests.api.callers import openapi_document
from tests.api.requests import posted, problem_of
from tests.postgres import execute, free_port
from tests.reliability.conftest import Note
from tests.servers import START_SECONDS, new_key, until_ready

CANARY = "canary"
COMMAND = (sys.executable, "-c", "from app.cli.main import app; app()", "serve")


@dataclass
class Served:
    """A service as an operator starts it, at its most talkative."""

    url: str
    log: Path

    @property
    def log_text(self) -> str:
        return self.log.read_text()


@contextmanager
def served(database_url: str, checkpoint: Path, folder: Path) -> Iterator[Served]:
    port = free_port()
    environment = {
        "QUICKSTUDY_DATABASE_URL": database_url,
        "QUICKSTUDY_MODEL": str(checkpoint),
        "QUICKSTUDY_PORT": str(port),
        "QUICKSTUDY_LOG_LEVEL": "debug",
        "QUICKSTUDY_WEBHOOKS_PRIVATE": "true",
    }
    server = Served(f"http://127.0.0.1:{port}", folder / "log")
    with server.log.open("w") as log:
        process = subprocess.Popen(COMMAND, env=environment, stdout=log, stderr=log)
    try:
        until_ready(server.url, process)
        yield server
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def break_inserts(database_url: str) -> None:
    """From now on storing a payment fails, on PostgreSQL with a message that quotes the row."""
    if database_url.startswith("sqlite"):
        with sqlite3.connect(make_url(database_url).database or "") as connection:
            connection.execute(
                "CREATE TRIGGER fault BEFORE INSERT ON transactions "
                "BEGIN INSERT INTO nowhere VALUES (NEW.account_id); END"
            )
        connection.close()
        return
    execute(
        database_url,
        "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no room for %', NEW; END $$",
    )
    execute(
        database_url,
        "CREATE TRIGGER fault BEFORE INSERT ON transactions FOR EACH ROW EXECUTE FUNCTION fault()",
    )


def garble(url: str) -> None:
    """What is no HTTP at all."""
    host, port = url.removeprefix("http://").split(":")
    for request in (f"{CANARY} {CANARY}\r\n\r\n", f"GET /{CANARY} HTTP/7\r\n{CANARY}\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=START_SECONDS) as connection:
            connection.sendall(request.encode())
            assert CANARY.encode() not in connection.recv(1 << 12)


def read_by(client: httpx.Client) -> str:
    """All that can be read through the addresses of the OpenAPI document."""
    document = openapi_document()
    texts = []
    ids = {"account_id": "a", "transaction_id": "t", "revision": "0", "name": "tiny"}
    for path, item in document["paths"].items():
        if "get" in item:
            address = re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], "0" * 12), path)
            texts.append(client.get(address).text)
    assert len(texts) > 20
    return "".join(texts)


def sent(client: httpx.Client) -> list[str]:
    """Canaries in all that a caller can send; returns the secrets that were answered."""
    ids = {"account_id": f"{CANARY}-account", "merchant_id": f"{CANARY}-merchant"}
    batch = [posted(f"{CANARY}-{n}", **ids, amount=10 + n) for n in range(20)]
    hook = f"http://127.0.0.1:9/{CANARY}?token={CANARY}"
    webhook = client.post("/v1/webhooks", json={"url": hook, "events": ["label.changed"]})
    made = client.post("/v1/keys", json={"name": f"{CANARY}-key", "scopes": ["read"]})
    assert client.post("/v1/transactions/batch", json={"transactions": batch}).is_success
    label = {"label": "fraud", "note": f"{CANARY} note", "analyst": CANARY}
    assert client.put(f"/v1/transactions/{CANARY}-1/label", json=label).is_success
    said_to_be_json = {"Content-Type": "application/json"}
    refused = [
        client.post("/v1/transactions", json=posted(f"{CANARY}-1", amount=9)),
        client.post("/v1/transactions", json=posted(**{CANARY: CANARY})),
        client.post("/v1/transactions", content=f'{{"{CANARY}": ', headers=said_to_be_json),
        client.post("/v1/transactions", json=posted(currency=CANARY, amount=CANARY)),
        client.get(f"/v1/accounts/{CANARY}-nobody"),
        client.get(f"/v1/models/{CANARY}/drift"),
        client.get(f"/{CANARY}", params={CANARY: CANARY}),
        client.get("/v1/transactions", params={"cursor": CANARY, CANARY: CANARY}),
        client.get("/v1/accounts", headers={"Authorization": f"Bearer qs_{CANARY}_{CANARY}"}),
        client.get("/v1/accounts", headers={"Authorization": f"Basic {CANARY}"}),
        client.get("/v1/x", headers={"X-Canary": CANARY, "Cookie": CANARY, "Host": CANARY}),
        # An id of the shape of ours is kept, as it says; any other is not.
        client.get("/v1/x", headers={"X-Request-Id": f"{CANARY} {CANARY}"}),
        client.put("/v1/transactions", content=CANARY),
    ]
    assert {400, 401, 404, 405, 409, 422} == {problem_of(refusal)[0] for refusal in refused}
    return [made.json()["key"].split("_", 2)[2], webhook.json()["secret"]]


def test_what_callers_send_reaches_nobody_else(
    database_url: str, checkpoint: Path, tmp_path: Path, noted: Note
) -> None:
    is_sqlite = database_url.startswith("sqlite")
    named = database_url.replace("postgres@", f"postgres:{CANARY}-password@")
    with served(named, checkpoint, tmp_path) as service, ExitStack() as open_clients:
        # The first key is printed, by design; any other is in one answer alone.
        first = re.search(r"qs_\S+", service.log_text)
        assert first is not None
        own_key, other_key = first[0], new_key(database_url, tenant="other")
        client, stranger = (
            open_clients.enter_context(
                httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {key}"})
            )
            for key in (own_key, other_key)
        )
        begun = len(service.log_text)
        secrets = [own_key.split("_", 2)[2], *sent(client)]
        garble(service.url)
        break_inserts(database_url)
        headers = {"X-Request-Id": "till-7-broken"}
        body = posted(f"{CANARY}-x", account_id=CANARY)
        broken = client.post("/v1/transactions", json=body, headers=headers)
        assert problem_of(broken) == (500, "internal_error")
        # A round of webhooks fails meanwhile.
        time.sleep(1.5)
        log = service.log_text[begun:]
        places = {
            "the log": log,
            "metrics": client.get("/metrics").text,
            "another tenant's answers": read_by(stranger),
            "an unexpected error": broken.text,
        }
        for place, text in places.items():
            assert [secret for secret in (CANARY, *secrets) if secret in text] == [], place
        # Its own tenant may know, but for the secrets, which were shown once.
        own = read_by(client)
        assert CANARY in own
        assert [secret for secret in secrets if secret in own] == []
    # What an operator needs to know of a failure is there: of which request, where, how.
    lines = [json.loads(line) for line in log.splitlines()]
    [failure] = [line for line in lines if "exception" in line]
    assert failure["request_id"] == "till-7-broken"
    assert "pipeline.py" in failure["exception"]
    assert failure["exception"].endswith("SQLITE_ERROR" if is_sqlite else "P0001")
    noted(
        "what callers send reaches nobody else",
        "SQLite" if is_sqlite else "PostgreSQL",
        "canaries in ids, bodies, keys, headers, queries, a password and a failing statement: none "
        f"in {len(lines)} lines of log at level debug, in metrics, or in what another tenant reads",
    )
