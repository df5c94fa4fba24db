"""What `quickstudy demo` shows: a real server with its own database, and what labels change."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from app.cli.terminal import console
from app.db.database import Database
from app.db.migrating import upgrade
from app.errors import SetupError
from app.keys import service as keys
from app.learner.money import posted_amount
from app.learner.reasons import LEAST_SHARE
from app.learner.transaction import DAY_US, HOUR_US
from app.models.service import Models
from app.settings import Settings
from app.times import now_us, text_of

Json = dict[str, Any]

START_SECONDS = 60
# -P: not from the folder that the command runs in, which may have an `app` of its own.
SERVER = ("-P", "-m", "app.web.server")
ALICE, BOB = "alice", "bob"


def demonstrate() -> None:
    """Score, give three labels, and score the same again: before and after."""
    Models(Settings())  # What is refused should be refused here, in a sentence.
    with (
        tempfile.TemporaryDirectory(prefix="quickstudy-demo-") as folder,
        _server(folder) as client,
    ):
        noon_us = now_us() - DAY_US
        for account in (ALICE, BOB):
            _scores(client, _everyday(account, noon_us))
        suspicious = [_online(ALICE, noon_us - hours * HOUR_US) for hours in (3, 2, 1)]
        _scores(client, suspicious)
        questions = [_online(ALICE, noon_us), _online(BOB, noon_us)]
        before = _scores(client, questions)
        labelled = [
            _answer(client.put(f"{_address(payment)}/label", json={"label": "fraud"}))
            for payment in suspicious
        ]
        again = [
            {**payment, "transaction_id": f"{payment['transaction_id']}-again"}
            for payment in questions
        ]
        after = _scores(client, again)
        console.print(_labels(labelled))
        console.print(_table(questions, before, after))
        console.print(
            "The same two payments, posted again: three labels moved the account they belong to, "
            "and no other."
        )
        why = _answer(client.get(f"{_address(again[0])}/reasons"))
        console.print(f"Why {ALICE}'s payment is at {why['probability']:.6f} now:")
        for reason in why["reasons"]:
            if abs(reason["share"]) >= LEAST_SHARE:
                console.print(f"  {reason['share']:+.2f}  {reason['sentence']}", soft_wrap=True)


def show_console() -> None:
    """Serve the console on demonstration payments, on a database that is gone afterwards."""
    Models(Settings())
    with (
        tempfile.TemporaryDirectory(prefix="quickstudy-demo-") as folder,
        _server(folder) as client,
    ):
        console.print("Loading and scoring demonstration payments ...")
        state = _answer(client.post("/v1/demo"))
        while state["status"] in ("queued", "running"):
            time.sleep(0.5)
            state = _answer(client.get("/v1/demo"))
        if state["status"] != "done":
            raise SetupError("the demonstration payments could not be loaded")
        loaded = state["loaded"]
        key = client.headers["Authorization"].removeprefix("Bearer ")
        console.print(
            f"{loaded['payments']:,} payments, {loaded['labels']:,} labels; {loaded['reviews']} "
            f"payments wait for a review. Sign in with any name and this key:\n\n  {key}\n\n"
            f"{client.base_url}/console\n\nCtrl-C ends it, and all of its data are gone.",
            soft_wrap=True,
            highlight=False,
        )
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


def _scores(client: httpx.Client, payments: list[Json]) -> list[Json]:
    answer = _answer(client.post("/v1/transactions/batch", json={"transactions": payments}))
    scores: list[Json] = answer["results"]
    return scores


def _address(payment: Json) -> str:
    return f"/v1/transactions/{payment['transaction_id']}"


def _answer(response: httpx.Response) -> Json:
    """The body of an answer; raises SetupError, with what it says, where it is no success."""
    answer: Json = response.json()
    if not response.is_success:
        raise SetupError(f"the demonstration's server has refused a request: {answer['detail']}")
    return answer


def _everyday(account: str, until_us: int) -> list[Json]:
    """Four weeks of groceries."""
    return [
        _transaction(
            account, until_us - day * DAY_US, 20 + day % 7, "grocer", "grocery", "pos", 400
        )
        for day in range(28, 0, -1)
    ]


def _online(account: str, at_us: int) -> Json:
    return _transaction(account, at_us, 149, "gadgets", "electronics", "online", 400)


def _transaction(
    account: str,
    at_us: int,
    amount: int,
    merchant: str,
    category: str,
    channel: str,
    device_age_days: int,
) -> Json:
    return {
        "transaction_id": f"{account}-{at_us}",
        "account_id": account,
        "occurred_at": text_of(at_us),
        "amount": amount,
        "currency": "EUR",
        "merchant_id": merchant,
        "merchant_category": category,
        "channel": channel,
        "country": "DE",
        "attributes": {"device_age_days": device_age_days},
    }


def _labels(labelled: list[Json]) -> Table:
    table = Table("label", "copy", "its own payment", "held up now", title="What each label did")
    for number, done in enumerate(labelled, 1):
        [own] = done["labelled"]
        table.add_row(
            f"{number}: {done['label']}",
            f"{done['adaptation']['used']}, weight {done['adaptation']['weight']:.2f}",
            f"{own['before']['probability']:.6f} -> {own['after']['probability']:.6f}",
            f"{len(done['raised'])}",
        )
    return table


def _table(
    questions: list[Json],
    before: list[Json],
    after: list[Json],
) -> Table:
    table = Table("account", "payment", "labels", "probability", "outcome", title="Three labels")
    for question, *scores in zip(questions, before, after, strict=True):
        amount = posted_amount(Decimal(question["amount"]), question["currency"])
        payment = f"{amount} at {question['merchant_id']}"
        for score, when in zip(scores, ("before", "after"), strict=True):
            table.add_row(
                question["account_id"],
                payment,
                f"{when}: {score['adaptation']['labels']} ({score['adaptation']['used']})",
                f"{score['probability']:.6f}",
                score["outcome"],
            )
        table.add_section()
    return table


@contextmanager
def _server(folder: str) -> Iterator[httpx.Client]:
    """A server of its own process on a new database, and a client with a key to it."""
    url = f"sqlite:///{Path(folder) / 'demo.db'}"
    upgrade(url)
    key = asyncio.run(_key(url))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *SERVER],
        env={
            **os.environ,
            "QUICKSTUDY_DATABASE_URL": url,
            "QUICKSTUDY_HOST": "127.0.0.1",
            "QUICKSTUDY_PORT": str(port),
            "QUICKSTUDY_WORKERS": "1",
            "QUICKSTUDY_LOG_LEVEL": "warning",
        },
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=START_SECONDS,
        ) as client:
            _wait(client, process)
            yield client
    finally:
        process.terminate()
        process.wait()


async def _key(url: str) -> str:
    database = Database(url)
    try:
        return await keys.create(database, "demo")
    finally:
        await database.close()


def _wait(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SetupError("the demonstration's server did not start")
