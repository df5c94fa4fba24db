"""A service on the CPU loads none of the libraries that training, migrating and pages need."""

import json
import os
import subprocess
import sys

import pytest

from tests.postgres import free_port

# `quickstudy serve`, and beside it a thread that asks it for a score with what Python has itself.
SERVES_A_SCORE = """
import contextlib, http.client, io, json, os, re, signal, sys, threading, time
from app.cli.main import app

payment = {"transaction_id": "t", "account_id": "a", "occurred_at": "2026-01-01T00:00:00Z",
           "amount": 1, "currency": "EUR"}
output, port = io.StringIO(), int(sys.argv[1])

def answered(*request):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(*request)
    return connection.getresponse().status

def is_ready():
    with contextlib.suppress(OSError):
        return answered("GET", "/readyz") == 200

def ask():
    while not is_ready():
        time.sleep(0.05)
    key = re.search(r"qs_[\\w-]+", output.getvalue())[0]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    status = answered("POST", "/v1/transactions", json.dumps(payment), headers)
    print(json.dumps([status, sorted(sys.modules)]), file=sys.__stdout__, flush=True)

def ask_and_end():
    try:
        ask()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask_and_end, daemon=True).start()
with contextlib.redirect_stdout(output):
    app(["serve", "--port", str(port)], standalone_mode=False)
"""
TRAINING = {
    *("babel", "duckdb", "torch", "currency_converter", "polars", "pandas"),
    *("sklearn", "scipy", "matplotlib"),
}
# What brings the schema up to date, what sends webhooks, and what fills the pages.
OTHERS = {"alembic", "mako", "httpx", "jinja2"}
OF_POSTGRESQL = {"sqlalchemy.orm", "sqlalchemy.ext.asyncio"}


@pytest.fixture
def modules(unmigrated_database_url: str) -> set[str]:
    """All modules of a process that has made a database and served a score."""
    variables = os.environ | {
        "QUICKSTUDY_DATABASE_URL": unmigrated_database_url,
        "QUICKSTUDY_DEVICE": "cpu",
    }
    printed = subprocess.run(
        [sys.executable, "-c", SERVES_A_SCORE, str(free_port())],
        env=variables,
        # uvicorn ends by the signal that it was sent.
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    ).stdout
    status, names = json.loads(printed.splitlines()[-1])
    assert status == 200
    return set(names)


def test_a_process_that_has_served_a_score_has_no_library_of_anything_else(
    modules: set[str], unmigrated_database_url: str
) -> None:
    assert (TRAINING | OTHERS) & modules == set()
    if unmigrated_database_url.startswith("sqlite"):
        assert OF_POSTGRESQL & modules == set()
