"""Servers behind HAProxy, by deploy/haproxy.cfg: an account stays with one, until that one goes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.requests import posted
from tests.balancers import balancer
from tests.servers import START_SECONDS, Server, new_key, replicas

ACCOUNTS = [f"account-{n}" for n in range(5)]
# Senders at once, and what each sends while a server is killed.
SENDERS, EACH = 4, 20


def scored(client: httpx.Client, server: Server) -> float:
    """How many payments a server has scored."""
    families = text_string_to_metric_families(client.get(f"{server.url}/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "quickstudy_scored_transactions_total"
    )


def served_by(client: httpx.Client, servers: list[Server], name: str) -> list[list[float]]:
    """How many of three payments each server has scored, of each account."""
    found = []
    for account in ACCOUNTS:
        before = [scored(client, server) for server in servers]
        for n in range(3):
            body = posted(f"{name}-{account}-{n}", account_id=account)
            assert client.post("/v1/transactions", json=body).status_code == 200
        found.append([scored(client, s) - b for s, b in zip(servers, before, strict=True)])
    return found


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_account_stays_with_a_server_until_that_is_drained_or_killed(
    database_url: str, checkpoint: Path, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {new_key(database_url)}"}
    with (
        replicas(2, database_url, checkpoint) as servers,
        balancer(servers, tmp_path) as before,
        httpx.Client(base_url=before.url, headers=headers, timeout=START_SECONDS) as client,
    ):
        first = served_by(client, servers, "first")
        assert {tuple(counts) for counts in first} == {(3, 0), (0, 3)}
        # Prometheus goes to the servers themselves.
        assert {client.get(p).status_code for p in ("/metrics", "/%6detrics?all=1")} == {404}
        # By the path as by the body.
        assert client.get(f"/v1/accounts/{ACCOUNTS[0]}").status_code == 200

        assert before.administer("set server servers/one state drain") == ""
        assert served_by(client, servers, "drained") == [[0, 3]] * len(ACCOUNTS)
        assert before.administer("set server servers/one state ready") == ""
        assert served_by(client, servers, "back") == first

        def send(sender: int) -> dict[str, httpx.Response]:
            answers = {}
            for n in range(EACH):
                if sender == 0 and n == EACH // 3:
                    servers[0].kill()
                name = f"killed-{sender}-{n}"
                body = posted(name, account_id=ACCOUNTS[n % len(ACCOUNTS)])
                answers[name] = client.post("/v1/transactions", json=body)
            return answers

        with ThreadPoolExecutor(SENDERS) as threads:
            answers = {
                k: v for found in threads.map(send, range(SENDERS)) for k, v in found.items()
            }
        # Not even an error: what the killed server did not answer, the other one did.
        assert {answer.status_code for answer in answers.values()} == {200}
        for name, answer in answers.items():
            number = int(name.rpartition("-")[2])
            body = posted(name, account_id=ACCOUNTS[number % len(ACCOUNTS)])
            assert client.post("/v1/transactions", json=body).content == answer.content


def test_who_gets_no_answer_is_told_to_come_again(tmp_path: Path) -> None:
    """By the balancer, as by servers: where a server has hung up, and where there is none."""
    with hanging_up() as (first, hung_up), balancer([first, first], tmp_path) as before:
        # Each on a connection of its own: on one that has had an answer HAProxy hangs up, too.
        lost = httpx.delete(f"{before.url}/v1/transactions/t-1/label")
        # It may have been removed.
        assert hung_up == ["DELETE"]
        # What changes nothing the second time is tried on the other server, too.
        again = httpx.put(f"{before.url}/v1/transactions/t-1/label", json={"label": "fraud"})
        assert hung_up.count("PUT") > 1
        for name in ("one", "two"):
            before.administer(f"set server servers/{name} state maint")
        nobody = httpx.post(f"{before.url}/v1/transactions", json=posted("t-2"))
    for answer in (lost, again, nobody):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["status"], problem["code"]) == (503, "server_lost")
        assert set(problem) == {"type", "title", "status", "code", "detail"}


@contextmanager
def hanging_up() -> Iterator[tuple[Server, list[str]]]:
    """A server that is ready and hangs up whatever else it is sent; the requests that it got."""
    found: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_PUT(self) -> None:
            found.append(self.command)
            self.close_connection = True

        do_DELETE = do_PUT

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield Server(service.server_port, {}), found
        service.shutdown()
