"""Drift over HTTP: what has shifted is named, what has not is not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import polars as pl
import pytest
import scipy.stats
from prometheus_client.parser import text_string_to_metric_families

from app.db.connection import Connection
from app.db.database import Database
from app.jobs.aside import Task
from app.jobs.measuring import measured
from app.keys import service as keys
from app.labels import store as label_store
from app.labels.records import StoredLabel
from app.learner.checkpoint import Checkpoint
from app.learner.decisions import Decision
from app.learner.differentiable.saving import learner_of, save_checkpoint
from app.learner.features import FeatureSet
from app.learner.profile import Histogram
from app.learner.scorer import AdapterKey, Scorer
from app.learner.spec import DatasetSpec
from app.learner.states import Floats
from app.learner.transaction import SECOND_US
from app.models import drift, drift_store
from app.models.drift import DriftGauges
from app.models.schemas import ModelDrift
from app.scoring import store as transaction_store
from app.scoring.records import Scored
from app.settings import Settings
from app.simulator.simulate import simulate
from app.times import now_us
from app.training.dataset import UNLABELLED, read_transactions
from app.training.episodes import Rows
from app.training.profile import profile_of
from tests.api.callers import app_of, calling, part_of
from tests.api.requests import problem_of
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly

pytestmark = pytest.mark.anyio
# With today, on which nobody paid yet, they are among the 28 that are looked at, also where a day
# begins meanwhile.
DAYS, DAYS_STORED = 70, 26


class Stream(NamedTuple):
    """Transactions as they would be stored, with their labels."""

    rows: list[Scored]
    labels: list[StoredLabel]


class World(NamedTuple):
    """A simulated file: half of its accounts made the profile, the other half pays on."""

    frame: pl.DataFrame
    folder: Path
    model: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("drift")
    frame = simulate(1500, DAYS, 3, midnight() - timedelta(days=DAYS))
    is_other = pl.col("account_id").str.slice(-1).is_in(list("13579"))
    frame.filter(~is_other).write_parquet(folder / "trained.parquet")
    first = tiny_checkpoint(folder / "first")
    rows = rows_of(folder / "trained.parquet")
    probability_N = np.array([decision.probability for decision in decisions(first, rows)])
    everything = np.arange(len(rows.time_us_N))
    spec = DatasetSpec.load("simulated")
    # Of the same days as the stream: how long things are known differs from month to month.
    label = spec.label.model_copy(update={"delay_days": 0.0})
    features = FeatureSet(spec.model_copy(update={"label": label}))
    profile = profile_of(features, rows, everything, probability_N)
    model = tiny_checkpoint(folder / "profiled", profile=profile)
    return World(frame.filter(is_other), folder, model)


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def rows_of(path: Path) -> Rows:
    spec = DatasetSpec.load("simulated")
    return Rows.of(read_transactions(path, spec), FeatureSet(spec))


def decisions(model: Path, rows: Rows) -> list[Decision]:
    scorer = Scorer(Checkpoint.load(model), "cpu", 1)
    unlabelled = [AdapterKey("default", str(account), 0) for account in rows.account_N]
    return scorer.score(rows.features_NF, rows.time_us_N, unlabelled, scorer.thresholds)


def stream(world: World, name: str, *changes: pl.Expr) -> Stream:
    """What the other accounts pay in four weeks, changed in some columns."""
    path = world.folder / f"{name}.parquet"
    since = midnight() - timedelta(days=DAYS_STORED)
    is_new = pl.col("occurred_at") >= since
    changed = world.frame.filter(is_new).with_columns(*changes)
    pl.concat([world.frame.filter(~is_new), changed]).write_parquet(path)
    rows = rows_of(path)
    decided = decisions(world.model, rows)
    model = Scorer(Checkpoint.load(world.model), "cpu", 1).model
    found = Stream([], [])
    for n in np.flatnonzero(rows.time_us_N >= since.timestamp() * SECOND_US):
        row = Scored(
            tenant="default",
            transaction_id=f"p-{n}",
            account_id=f"acc-{rows.account_N[n]}",
            occurred_at_us=int(rows.time_us_N[n]),
            content="{}",
            content_digest=b"",
            features=transaction_store.float32_row(rows.features_NF[n]),
            features_digest="",
            revision=0,
            model=model,
            evaluated_at_us=now_us(),
            **decided[n]._asdict(),
        )
        found.rows.append(row)
        if rows.is_fraud_N[n] != UNLABELLED:
            at_us = row.occurred_at_us
            is_fraud = bool(rows.is_fraud_N[n])
            found.labels.append(StoredLabel(*row[:3], is_fraud, at_us, at_us, at_us))
    return found


@pytest.fixture(scope="module")
def steady(world: World) -> Stream:
    """A stream that does not shift."""
    # Frauds come in series, so two months of the same people differ in how many there are.
    profile = Checkpoint.load(world.model).metadata.profile
    assert profile
    every = round(profile.transactions / profile.frauds)
    is_fraud = (pl.int_range(pl.len()) % every == 0).alias("is_fraud")
    return stream(world, "same", is_fraud, pl.lit(0.0).alias("label_delay_days"))


@pytest.fixture(scope="module")
def of_new_devices(world: World) -> Stream:
    """The same people, each with a device of a tenth of its age."""
    return stream(world, "devices", pl.col("device_age_days") / 10)


@pytest.fixture(scope="module")
def of_more_frauds(world: World) -> Stream:
    """The same, of which every fiftieth is a fraud as well."""
    every_fiftieth = pl.int_range(pl.len()) % 50 == 0
    more = pl.when(every_fiftieth).then(True).otherwise(pl.col("is_fraud")).alias("is_fraud")
    delay = pl.when(every_fiftieth).then(0.0).otherwise(pl.col("label_delay_days"))
    return stream(world, "frauds", more, delay.alias("label_delay_days"))


@pytest.fixture
async def client(service_settings: Settings, world: World) -> AsyncIterator[httpx.AsyncClient]:
    settings = service_settings.model_copy(update={"model": world.model})
    async with calling(settings) as client:
        app_of(client).state.database_url = settings.database_url
        yield client


async def drift_of(client: httpx.AsyncClient, stored: Stream, world: World) -> ModelDrift:
    """Store a stream, and measure as the process beside the service does."""

    async def insert(connection: Connection) -> None:
        await transaction_store.save_scored(connection, stored.rows)
        await label_store.save_labels(connection, stored.labels, [])

    await part_of(client, Database).run(insert)
    settings = Settings(
        database_url=app_of(client).state.database_url,
        model=world.model,
        device="cpu",
    )
    text = await measured(settings, Task("drift", "default", "profiled", 28))
    return ModelDrift.model_validate_json(text)


async def test_on_a_stream_that_does_not_shift_nothing_is_named(
    client: httpx.AsyncClient, world: World, steady: Stream
) -> None:
    stored = steady
    found = await drift_of(client, stored, world)
    assert [(o.name, o.psi, o.fraud_psi) for o in (found.score, *found.features) if o.drifted] == []
    assert not found.fraud_share.drifted
    assert (found.transactions, found.sampled) == (len(stored.rows), len(stored.rows))
    assert sum(day.frauds for day in found.days) == sum(label.is_fraud for label in stored.labels)
    assert sum(day.labelled for day in found.days) == len(stored.labels)
    assert sum(day.transactions for day in found.days) == len(stored.rows)
    assert [feature.psi for feature in found.features] == sorted(
        (feature.psi for feature in found.features if feature.psi is not None), reverse=True
    )
    assert found.score.psi is not None
    assert len(found.score.by_day) == len(found.days)


@mainly("sqlite")
async def test_the_features_that_shift_are_named_and_no_other(
    client: httpx.AsyncClient, world: World, of_new_devices: Stream
) -> None:
    found = await drift_of(client, of_new_devices, world)
    assert set(found.drifted) == {"attribute_device_age_days", "account_device_age_days_z"}
    # Every day of the four weeks shows it, as every day was changed.
    shifted = found.features[0].by_day
    assert min(shift for shift in shifted if shift is not None) > drift.DRIFTED


@mainly("sqlite")
async def test_a_share_of_frauds_that_rises_is_seen(
    client: httpx.AsyncClient, world: World, of_more_frauds: Stream
) -> None:
    found = await drift_of(client, of_more_frauds, world)
    assert found.fraud_share.drifted
    assert found.fraud_share.now is not None
    assert found.fraud_share.now > 2 * found.fraud_share.trained
    # Frauds among everybody's payments lie elsewhere than the thieves' did.
    assert any(feature.frauds_drifted for feature in found.features)


async def test_without_traffic_nothing_is_known(client: httpx.AsyncClient, world: World) -> None:
    found = await drift_of(client, Stream([], []), world)
    assert (found.days, found.sampled, found.drifted) == ([], 0, [])
    assert found.score.psi is None
    assert found.fraud_share.now is None


@mainly("sqlite")
async def test_the_gauges_show_the_highest_of_all_tenants(
    client: httpx.AsyncClient, world: World, of_new_devices: Stream
) -> None:
    found = await drift_of(client, of_new_devices, world)
    await keys.create(part_of(client, Database), "tests", tenant="without traffic")
    await part_of(client, DriftGauges).measure()
    values = {
        sample.labels["feature"]: sample.value
        for family in text_string_to_metric_families((await client.get("/metrics")).text)
        for sample in family.samples
        if sample.name == "quickstudy_drift_psi"
    }
    psi_of = {measured.name: measured.psi for measured in (found.score, *found.features)}
    assert values == pytest.approx(psi_of)


@mainly("sqlite")
async def test_a_checkpoint_without_a_profile_is_refused(
    service_settings: Settings, checkpoint: Path, tmp_path: Path
) -> None:
    old = Checkpoint.load(checkpoint)
    folder = tmp_path / "old"
    save_checkpoint(folder, learner_of(old), old.metadata.model_copy(update={"profile": None}))
    async with calling(service_settings.model_copy(update={"model": folder})) as client:
        refused = problem_of(await client.post("/v1/models/old/drift"))
        await part_of(client, DriftGauges).measure()
    assert refused == (409, "model_refused")


async def test_a_sample_is_always_the_same_and_no_larger_than_its_limit(
    client: httpx.AsyncClient, world: World, steady: Stream
) -> None:
    theirs = [row._replace(tenant="other", account_id="theirs") for row in steady.rows]
    await drift_of(client, Stream(theirs, []), world)
    await drift_of(client, steady, world)
    async with part_of(client, Database).read() as connection:
        first, again = [await drift_store.sampled(connection, "default", 0, 7) for _ in range(2)]
        other = await drift_store.sampled(connection, "other", 0, 7)
    assert first == again
    assert {row.account_id for row in other} == {"theirs"} != {row.account_id for row in first}
    assert len(other) == len(first)
    assert len(first) == pytest.approx(len(steady.rows) / 7, rel=0.1)


def test_the_index_is_the_symmetric_divergence() -> None:
    before_E, now_E = np.array([900, 50, 0, 40, 10]), np.array([40, 3, 20, 30, 7])
    p_E, q_E = (before_E + 0.5), (now_E + 0.5)
    divergence = scipy.stats.entropy(p_E, q_E) + scipy.stats.entropy(q_E, p_E)
    assert drift.psi(before_E, now_E) == pytest.approx(divergence)
    assert drift.psi(before_E, before_E) == 0


@pytest.mark.parametrize("bins", [2, 5, 10, 19])
def test_chance_reaches_the_bound_once_in_a_thousand(bins: int) -> None:
    rng = np.random.default_rng(bins)
    shares_E = rng.dirichlet(np.full(bins, 20.0))
    before_RE, now_RE = rng.multinomial(8000, shares_E, 4000), rng.multinomial(500, shares_E, 4000)
    found_R = np.array([drift.psi(b, n) for b, n in zip(before_RE, now_RE, strict=True)])
    bound = drift.by_chance(before_RE[0], 8000, 500)
    assert (found_R > bound).mean() < 0.01
    assert (found_R > 0.6 * bound).mean() > 0.001


@pytest.mark.parametrize(
    "values",
    [
        np.arange(1000.0),
        np.repeat([0.0, 1.0], [990, 10]),
        np.repeat([0.0, 1.0], [10, 990]),
        np.repeat([1.0, 2.0, 3.0, 4.0], [400, 300, 250, 50]),
        np.zeros(5),
        np.array([3.0]),
    ],
    ids=["even", "rarely", "mostly", "categories", "constant", "one"],
)
def test_bins_separate_values(values: Floats) -> None:
    found = Histogram.of(values, values > 2)
    assert sum(found.counts) == len(values)
    assert sum(found.frauds) == (values > 2).sum()
    assert max(found.counts) <= max(np.unique(values, return_counts=True)[1].max(), 150)
    # Whatever was not there before has a bin that was nearly empty.
    assert drift.psi(np.array(found.counts), found.count(values + 1e6)) > drift.DRIFTED
