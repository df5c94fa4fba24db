"""Small transactions files for the tests of training, written and read like any other."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from app.learner.features import FeatureSet
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from app.simulator.simulate import simulate
from app.training.dataset import NEVER_US, UNLABELLED, Dataset, read_transactions
from app.training.episodes import Rows
from app.training.run import Source
from app.training.train import Options

SIMULATED = DatasetSpec.load("simulated")
TINY = Options(global_steps=8, meta_steps=8, episodes=8, check_every=4)


def simulated_source(
    folder: Path,
    accounts: int = 110,
    days: int = 60,
    seed: int = 1,
    rates: Rates | None = None,
) -> Source:
    """A file as `quickstudy simulate` writes it, and its digest.

    The tests of training need more than 2,500 labels, a hundred of them of accounts that have
    labels of both classes by then, frauds among the accounts that a split holds out, and frauds
    whose labels had come in the four weeks that a profile is of. Files of the default size have
    3,500 labels or more with the seeds 1 to 5.
    """
    path = folder / "simulated.parquet"
    simulate(accounts, days, seed).write_parquet(path)
    return Source.read(path, SIMULATED, rates)


def rows_of(dataset: Dataset, spec: DatasetSpec = SIMULATED, rates: Rates | None = None) -> Rows:
    return Rows.of(dataset, FeatureSet(spec, rates))


OTHER = DatasetSpec.model_validate(
    {
        "name": "other",
        "columns": {
            "transaction": "id",
            "account": "mail",
            "time": "when",
            "amount": "euros",
            "label": "bad",
        },
        "categorical": {"channel": "how", "plan": "plan"},
        "numeric": {"basket": "basket", "age": "age"},
    }
)


def other_dataset(folder: Path, accounts: int = 150, seed: int = 0) -> Dataset:
    """Other columns, numeric attributes, no merchant, no label delay, 2 to 10 rows an account."""
    rng = np.random.default_rng(seed)
    account_N = np.repeat(np.arange(accounts), rng.integers(2, 11, accounts))
    rows = len(account_N)
    bad_N = rng.random(rows) < 0.15
    second_N = rng.integers(0, 40 * 86_400, rows) + 1_700_000_000
    frame = pl.DataFrame(
        {
            "id": np.arange(rows),
            "mail": [f"{account}@example.org" for account in account_N],
            "when": second_N,
            "euros": np.round(rng.lognormal(3 + bad_N, 1), 2),
            "bad": bad_N.astype(int),
            "how": rng.choice(["web", "app", ""], rows),
            "plan": rng.choice(["free", "paid"], rows),
            "basket": rng.normal(5, 2, rows),
            "age": np.where(rng.random(rows) < 0.3, np.nan, rng.integers(18, 80, rows)),
        }
    )
    path = folder / "other.csv"
    frame.with_columns(pl.col("age").fill_nan(None)).write_csv(path)
    return read_transactions(path, OTHER)


def spec_with(**backtest: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(
        SIMULATED.model_dump() | {"label": {"delay_days": 3}, "backtest": backtest}
    )


def plain_rows(day_N: list[float], account_N: list[int], label_N: list[int]) -> Rows:
    """Rows without features, their labels known after three days."""
    time_us_N = np.array([round(day * DAY_US) for day in day_N])
    is_fraud_N = np.array(label_N, np.int8)
    order_N = np.lexsort((time_us_N, account_N))
    known_N = np.where(is_fraud_N == UNLABELLED, NEVER_US, time_us_N + 3 * DAY_US)
    return Rows(
        ("own",),
        order_N,
        np.zeros((len(day_N), 1), np.float32),
        np.array(account_N)[order_N],
        time_us_N[order_N],
        is_fraud_N[order_N],
        known_N[order_N],
    )
