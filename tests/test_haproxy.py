"""Servers behind HAProxy, by deploy/haproxy.cfg: an account stays with one, until that one goes."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.requests import posted
from tests.conftest import REPOSITORY
from tests.postgres import free_port
from tests.servers import START_SECONDS, Server, new_key, replicas, until_ready

ACCOUNTS = [f"account-{n}" for n in range(5)]
# Senders at once, and what each sends while a server is killed.
SENDERS, EACH = 4, 20


@contextmanager
def balancer(servers: list[Server], folder: Path) -> Iterator[str]:
    """The URL of a HAProxy before two servers; skips the test where it is not installed."""
    program = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if program is None:
        pytest.skip("HAProxy is not installed (on Debian: apt-get install haproxy)")
    first, second = (f"127.0.0.1:{server.port}" for server in servers)
    port = free_port()
    process = subprocess.Popen(
        [program, "-db", "-f", REPOSITORY / "deploy" / "haproxy.cfg"],
        env={
            **os.environ,
            "QUICKSTUDY_BIND": f"127.0.0.1:{port}",
            "QUICKSTUDY_ONE": first,
            "QUICKSTUDY_TWO": second,
            "QUICKSTUDY_ADMIN": str(folder / "admin.sock"),
        },
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def administer(folder: Path, command: str) -> str:
    """What HAProxy answers to a command of its operator's."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(folder / "admin.sock"))
        admin.sendall(f"{command}\n".encode())
        return admin.makefile().read().strip()


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
        balancer(servers, tmp_path) as url,
        httpx.Client(base_url=url, headers=headers, timeout=START_SECONDS) as client,
    ):
        until_both_are_up(tmp_path)
        first = served_by(client, servers, "first")
        assert {tuple(counts) for counts in first} == {(3, 0), (0, 3)}
        # Prometheus goes to the servers themselves.
        assert {client.get(p).status_code for p in ("/metrics", "/%6detrics?all=1")} == {404}
        # By the path as by the body.
        assert client.get(f"/v1/accounts/{ACCOUNTS[0]}").status_code == 200

        assert administer(tmp_path, "set server servers/one state drain") == ""
        assert served_by(client, servers, "drained") == [[0, 3]] * len(ACCOUNTS)
        assert administer(tmp_path, "set server servers/one state ready") == ""
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


def until_both_are_up(folder: Path) -> None:
    """Until HAProxy has seen for itself that both servers are ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        states = [
            line.split(",")[17]
            for line in administer(folder, "show stat").splitlines()
            if line.startswith(("servers,one,", "servers,two,"))
        ]
        if all(state == "UP" for state in states):
            return
        time.sleep(0.05)
    raise RuntimeError("HAProxy does not find both servers ready")
