"""What the service stores is what training computes: the same vectors to the bit, with labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from app.db.database import Database
from app.db.patience import Patience
from app.history.importing import Importer, Past
from app.history.reading import History
from app.http.parts import Service
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.learner.features import FeatureSet
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline, Posted
from app.scoring.records import Scored
from app.settings import Settings
from app.simulator.simulate import simulate
from app.training.dataset import read_transactions
from app.training.episodes import Rows
from app.web.service import running
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly

pytestmark = pytest.mark.anyio

TENANT = "t"
DELAY_DAYS = 2
# Labels mature while the file is replayed, and merchants are met again and again.
MERCHANTS, TRANSACTIONS, LABELLED_SHARE = 100, 5000, 0.03
MOST = 200


@pytest.fixture(scope="session")
def handbook_file(requires_shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 Handbook transactions of the most defrauded merchants, a share of them labelled."""
    merchants = (
        pl.scan_parquet(requires_shared_data)
        .group_by("merchant_id")
        .agg(pl.col("is_fraud").sum())
        .sort("is_fraud", "merchant_id", descending=True)
        .head(MERCHANTS)
    )
    frame = (
        pl.scan_parquet(requires_shared_data)
        .join(merchants.select("merchant_id"), on="merchant_id", how="semi")
        .sort("timestamp", "transaction_id")
        .head(TRANSACTIONS)
        .collect()
    )
    draws = pl.Series(np.random.default_rng(0).random(len(frame)))
    often = (frame["is_fraud"] == 1) & (draws < 10 * LABELLED_SHARE)
    labelled = often | (draws < LABELLED_SHARE)
    path = tmp_path_factory.mktemp("handbook") / "few.parquet"
    frame.with_columns(pl.when(labelled).then("is_fraud").alias("is_fraud")).write_parquet(path)
    return path


@pytest.fixture(scope="session")
def handbook_spec() -> DatasetSpec:
    """The Handbook's, with labels that mature sooner."""
    described = DatasetSpec.load("handbook").model_dump()
    return DatasetSpec.model_validate(described | {"label": {"delay_days": DELAY_DAYS}})


def batches(history: Sequence[Past]) -> Iterator[list[Past]]:
    """Batches of random sizes, none as long as the delay: labels are posted before they mature."""
    rng = np.random.default_rng(0)
    batch: list[Past] = []
    size = 1
    for past in history:
        started_us = batch[0].transaction.occurred_at_us if batch else 0
        long = past.transaction.occurred_at_us - started_us >= DELAY_DAYS * DAY_US
        if batch and (long or len(batch) == size):
            yield batch
            batch, size = [], int(rng.choice([1, 20, MOST, MOST]))
        batch.append(past)
    yield batch


async def replay(service: Service, history: Sequence[Past]) -> None:
    """Score a file as it came, and label what it labels right after."""
    for batch in batches(history):
        answers = await service.part(Pipeline).score(
            [Posted(TENANT, past.transaction) for past in batch]
        )
        assert all(isinstance(answer, Scored) for answer in answers)
        verdicts: dict[str, list[Verdict]] = {}
        for past in batch:
            if past.is_fraud is not None:
                payment = past.transaction
                verdict = Verdict(payment.transaction_id, past.is_fraud)
                verdicts.setdefault(payment.account_id, []).append(verdict)
        for account_id, of_account in verdicts.items():
            await service.part(Labelling).store(TENANT, account_id, of_account)


async def stored_features(service: Service, ids: list[str]) -> np.ndarray:
    """The vectors that the database keeps, in the order of the ids: [N, F]."""
    found: dict[str, Scored] = {}
    async with service.part(Database).read() as connection:
        for first in range(0, len(ids), 1000):
            found |= await transaction_store.scored(connection, TENANT, ids[first : first + 1000])
    return np.stack([np.frombuffer(found[key].features, "<f4") for key in ids])


def settings_of(database_url: str, model: Path) -> Settings:
    return Settings(database_url=database_url, model=model, device="cpu", bank_bytes=1 << 20)


async def assert_parity(service: Service, path: Path, spec: DatasetSpec) -> None:
    """Every stored vector is the one that training makes of its row."""
    rates = service.part(Pipeline).features.rates
    features = FeatureSet(spec, rates)
    dataset = read_transactions(path, spec, rates)
    rows = Rows.of(dataset, features)
    ids = [dataset.transaction_ids[position] for position in rows.position_N]
    served_NF = await stored_features(service, ids)
    for name in ("merchant_frauds_30d", "merchant_fraud_share_6h"):
        reported_N = rows.features_NF[:, features.names.index(name)]
        assert (reported_N > 0).sum() >= 10  # labels do mature within
    for position, name in enumerate(features.names):
        np.testing.assert_array_equal(
            served_NF[:, position], rows.features_NF[:, position], err_msg=name
        )


@mainly("sqlite")
async def test_a_file_through_the_service_has_the_features_of_training(
    database_url: str, tmp_path: Path, handbook_file: Path, handbook_spec: DatasetSpec
) -> None:
    [history] = History(handbook_file, handbook_spec).chunks(TRANSACTIONS)
    assert len(history) == TRANSACTIONS
    model = tiny_checkpoint(tmp_path / "model", handbook_spec)
    async with running(settings_of(database_url, model)) as service:
        await replay(service, history)
        await assert_parity(service, handbook_file, handbook_spec)


async def test_an_imported_file_has_the_features_of_training(
    database_url: str, tmp_path: Path
) -> None:
    """Every kind of column, currencies with a rate and without, and labels that are known late."""
    spec = DatasetSpec.load("simulated")
    path = tmp_path / "simulated.parquet"
    frame = simulate(accounts=40, days=60, seed=3)
    currency = pl.Series(np.random.default_rng(0).choice(["EUR", "JPY", "KWD"], len(frame)))
    frame.with_columns(currency=currency).write_parquet(path)
    rates = Rates(reference="EUR", per_unit={"JPY": 0.0057})
    model = tiny_checkpoint(tmp_path / "model", spec, rates=rates)
    async with running(settings_of(database_url, model)) as service:
        importer = Importer(service.part(Database), service.part(Pipeline), Patience(print))
        for chunk in History(path, spec).chunks(500):
            await importer.add(TENANT, chunk)
        await assert_parity(service, path, spec)
