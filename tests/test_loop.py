"""The loop closes: production's labels become the next checkpoint, with traffic running."""

import fcntl
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.cli.retraining import LOCK
from app.learner.checkpoint import Checkpoint
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.training.rates import bundled_rates
from quickstudy_client import Client
from tests.api.requests import posted
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly
from tests.servers import START_SECONDS, new_key, server

ACCOUNTS, DAYS = 24, 40
HELD_OUT_DAYS = 14
RETRAIN = (
    *("retrain", "--held-out-days", str(HELD_OUT_DAYS)),
    *("--global-steps", "6", "--meta-steps", "3"),
)


def payments() -> list[tuple[dict[str, Any], bool]]:
    """Six weeks of groceries, and now and then somebody else's electronics."""
    random, now = np.random.default_rng(0), datetime.now(UTC)
    found = []
    for account in range(ACCOUNTS):
        for day in range(DAYS, 0, -1):
            is_fraud = bool(random.random() < 0.08)
            body = posted(
                f"p-{account}-{day}",
                account_id=f"acc-{account}",
                occurred_at=(now - timedelta(days=day, hours=account / 2)).isoformat(),
                amount=round(float(random.uniform(300, 900) if is_fraud else 20), 2),
                merchant_id="gadgets" if is_fraud else f"grocer-{account % 3}",
                merchant_category="electronics" if is_fraud else "grocery",
                channel="online" if is_fraud else "pos",
                attributes={"device_age_days": 1 if is_fraud else 300},
            )
            found.append((body, is_fraud))
    return sorted(found, key=lambda pair: pair[0]["occurred_at"])


class Traffic:
    """Somebody who goes on paying, and notes every answer and every failure."""

    def __init__(self, url: str, key: str) -> None:
        self.models: list[str] = []
        self.failures: list[Exception] = []
        self._over = threading.Event()
        self._client = Client(url, key, timeout=START_SECONDS)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        # Now and then: the trainings beside it need the processor.
        while not self._over.wait(0.2):
            body = posted(
                f"live-{len(self.models)}", account_id=f"acc-{len(self.models) % ACCOUNTS}"
            )
            try:
                self.models.append(self._client.score(body).model)
            except Exception as error:
                self.failures.append(error)


def quickstudy(url: str, model: Path, *arguments: str, status: int = 0) -> str:
    environment = {"QUICKSTUDY_DATABASE_URL": url, "QUICKSTUDY_MODEL": str(model)}
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code == status, done.output
    return done.output


@mainly("postgresql")
def test_labels_become_the_next_model_while_nobody_notices(
    database_url: str, tmp_path: Path
) -> None:
    shelf = tmp_path / "models"
    tiny_checkpoint(shelf / "first", algorithm="fomaml", rates=bundled_rates(), trees=False)
    key = new_key(database_url)
    labelled = payments()
    kept_from = (datetime.now(UTC) - timedelta(days=HELD_OUT_DAYS)).isoformat()
    with (
        server(database_url, shelf / "first") as url,
        Client(url, key, timeout=START_SECONDS) as client,
    ):
        for n in range(0, len(labelled), 400):
            client.score_batch([body for body, _ in labelled[n : n + 400]])
        labels = [
            {
                "transaction_id": body["transaction_id"],
                "label": "fraud" if is_fraud else "legitimate",
                "labelled_at": (
                    datetime.fromisoformat(body["occurred_at"]) + timedelta(hours=9)
                ).isoformat(),
                "source": "chargeback",
            }
            for body, is_fraud in labelled
        ]
        client.label_batch(labels[:1000])
        with Traffic(url, key) as traffic:
            export = tmp_path / "production.parquet"
            quickstudy(database_url, shelf / "first", "export", str(export))
            spec = DatasetSpec.load(export.with_suffix(".toml"))
            assert FeatureSet(spec).digest == FeatureSet(DatasetSpec.load("simulated")).digest
            written = pl.read_parquet(export)
            assert written["is_fraud"].drop_nulls().sum() == sum(
                is_fraud for _, is_fraud in labelled
            )
            assert written["transaction_id"].is_unique().all()

            output = quickstudy(database_url, shelf / "first", *RETRAIN)
            [new] = [item for item in client.models().data if item.shadow]
            assert new.name.startswith("retrained-")
            assert f"{new.name} is in shadow. It ranks" in output
            [comparison] = re.findall(r'{"comparison": "(\w+)"}', output)
            compared = client.comparison(new.name, comparison).result
            assert compared is not None
            # Of the days that it was not trained on.
            recent = [is_fraud for body, is_fraud in labelled if body["occurred_at"] > kept_from]
            assert (compared.frauds, compared.better) == (sum(recent), True)
            assert compared.active.average_precision is not None
            assert compared.shadow.average_precision is not None
            assert compared.shadow.average_precision > compared.active.average_precision
            trained = Checkpoint.load(shelf / new.name).metadata
            assert trained.data.last < kept_from
            first = Checkpoint.load(shelf / "first").metadata
            assert (trained.rates, trained.algorithm) == (first.rates, first.algorithm)
            assert trained.options["trees"] is False
            # Neither payments nor unfinished models stay behind.
            assert {path.name for path in shelf.iterdir()} == {"first", LOCK, new.name}
            client.promote_model(new.name, comparison)
            # Nothing has been labelled since; and never do two of them run at a time.
            again = quickstudy(database_url, shelf / "first", *RETRAIN)
            assert re.search(rf"\d+ labels are new to {new.name}@\w+: nothing is trained", again)
            with (shelf / LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                refused = quickstudy(database_url, shelf / "first", *RETRAIN, status=2)
            assert "another retraining uses" in refused
            promoted = client.score(posted("after-promotion", account_id="acc-1"))
            client.roll_back_model()
            back = client.score(posted("after-rollback", account_id="acc-1"))
        assert traffic.failures == []
        assert promoted.model.startswith(f"{new.name}@")
        assert back.model.startswith("tiny@")
        assert {back.model, promoted.model} <= {*traffic.models, promoted.model}
        assert client.replay("after-promotion").match
        logged = client.audit_log(action="model.activated").data
        assert [entry.subject for entry in logged] == ["first", new.name]


def test_a_retraining_without_a_folder_of_models_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    monkeypatch.setenv("QUICKSTUDY_MODEL", str(tmp_path / "no" / "model"))
    done = CliRunner().invoke(app, ["retrain"])
    assert done.exit_code == 2, done.output
    assert f"there is no folder {tmp_path / 'no'}: QUICKSTUDY_MODELS names" in done.output


@pytest.mark.parametrize("name", ["production.csv", "production"])
def test_an_export_is_parquet(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path / name)])
    assert done.exit_code == 2, done.output
    assert "an export is a .parquet file" in done.stderr
