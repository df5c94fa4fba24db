"""docs/chargebacks.md does what it says: its files, specs, commands and webhooks, typed in."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.db.migrating import upgrade
from quickstudy_client import Client
from tests.api.requests import posted
from tests.servers import new_key, server

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "chargebacks.md").read_text()
Step = tuple[str, str]
# Each payment that the page's files name, and is to be found.
PAID = ("order-1", "order-2", "order-3", "order-4", "ch_1", "ch_2", "ch_3", "9AB1", "9AB2")


def session_of(page: str) -> list[Step]:
    """The commands of a page, each with what follows it: its output, or a file's text."""
    blocks = re.findall(r"^```\n(\$ .*?)^```", page, re.MULTILINE | re.DOTALL)
    steps = re.split(r"^\$ ", "".join(blocks), flags=re.MULTILINE)[1:]
    return [(command, text) for command, _, text in (step.partition("\n") for step in steps)]


@pytest.fixture
def client(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A service that has scored the page's payments, whose database the commands use too."""
    url = f"sqlite:///{tmp_path / 'quickstudy.db'}"
    for name, value in {"DATABASE_URL": url, "MODEL": str(checkpoint), "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"QUICKSTUDY_{name}", value)
    monkeypatch.chdir(tmp_path)
    upgrade(url)
    with server(url, checkpoint) as address, Client(address, new_key(url)) as client:
        client.score_batch([posted(key, account_id=key) for key in PAID])
        yield client


def test_the_page_does_what_it_says(client: Client) -> None:
    for command, text in session_of(PAGE):
        name, *arguments = command.split()
        if name == "cat":
            Path(arguments[0]).write_text(text)
        else:
            result = CliRunner().invoke(app, arguments)
            shown = [line for line in result.output.splitlines() if "━" not in line]
            assert (shown, result.exit_code) == (text.splitlines(), 0), command
    labels = {key: client.label_history(key) for key in PAID}
    assert {key: label.label for key, label in labels.items()} == {
        **dict.fromkeys(PAID),
        **dict.fromkeys(("order-1", "order-3", "ch_1", "ch_3", "9AB1"), "fraud"),
        "order-2": "legitimate",
    }
    dated = {
        key: (label.history[0].labelled_at, label.history[0].source)
        for key, label in labels.items()
        if label.history
    }
    assert dated == {
        "order-1": ("2026-02-03T00:00:00.000000Z", "chargeback"),
        "order-2": ("2026-02-03T08:30:00.000000Z", "chargeback"),
        "order-3": ("2026-02-03T18:58:55.000000Z", "early_fraud_warning"),
        "ch_1": ("2026-02-03T09:30:00.000000Z", "chargeback"),
        "ch_3": ("2026-02-04T13:16:40.000000Z", "chargeback"),
        "9AB1": ("2026-02-09T16:15:00.000000Z", "chargeback"),
    }

    verdicts = labels_of_messages(functions_of(PAGE))
    done = client.label_batch(verdicts).results
    assert [label.transaction_id for label in done] == ["ch_2", "order-4", "order-2", "9AB2"]
    assert all(label.changed for label in done)
    history = client.label_history("order-2").history
    assert [entry.label for entry in history] == ["legitimate", "fraud"]
    assert history[-1].labelled_at == "2026-02-12T09:00:00.000000Z"


def functions_of(page: str) -> dict[str, Callable[[Any], Iterator[dict[str, Any]]]]:
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def labels_of_messages(
    page: dict[str, Callable[[Any], Iterator[dict[str, Any]]]],
) -> list[dict[str, Any]]:
    """What the page's functions make of messages, some of which say nothing of fraud."""
    return [
        *(label for message in STRIPE for label in page["of_stripe"](message)),
        *page["of_adyen"](ADYEN),
        *(label for message in PAYPAL for label in page["of_paypal"](message)),
    ]


STRIPE = [
    {"type": kind, "data": {"object": {"charge": charge, "created": 1770111000, **more}}}
    for kind, charge, more in (
        ("radar.early_fraud_warning.created", "ch_2", {"fraud_type": "misc"}),
        ("charge.dispute.created", "ch_3", {"reason": "duplicate"}),
        ("charge.dispute.closed", "ch_3", {"reason": "fraudulent"}),
    )
]
ADYEN = {
    "live": "false",
    "notificationItems": [
        {
            "NotificationRequestItem": {
                "eventCode": kind,
                "pspReference": "9915555555555555",
                "originalReference": payment,
                "eventDate": "2026-02-12T10:00:00+01:00",
                "additionalData": {"chargebackReasonCode": code} if code else {},
            }
        }
        for kind, payment, code in (
            ("NOTIFICATION_OF_FRAUD", "order-4", None),
            ("CHARGEBACK", "order-2", "10.4"),
            ("CHARGEBACK", "order-1", "13.1"),
            ("CHARGEBACK_REVERSED", "order-1", "10.4"),
        )
    ],
}
PAYPAL = [
    {
        "event_type": "CUSTOMER.DISPUTE.CREATED",
        "resource": {
            "dispute_id": "PP-D-1",
            "create_time": "2026-02-09T16:15:00.000Z",
            "reason": reason,
            "disputed_transactions": [{"seller_transaction_id": "9AB2"}],
        },
    }
    for reason in ("UNAUTHORISED", "MERCHANDISE_OR_SERVICE_NOT_RECEIVED")
]
