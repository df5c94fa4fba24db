"""A folder of parts, as `quickstudy partition` writes it, and the rows to train on in it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from app.errors import SetupError
from app.learner.checkpoint import Data
from app.learner.features import FeatureSet, check_same_features
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US, SECOND_US
from app.training.entries import NEVER_US, UNLABELLED
from app.training.episodes import Rows
from app.training.left_out import LeftOut
from app.training.ranks import ALONE, Ranks

# Readers of files leave out what begins with "_".
MANIFEST, FEATURES = "_parts.json", "_features.npy"
SPEC, TRANSACTIONS = "spec.toml", "transactions.parquet"


def name_of(part: int) -> str:
    """The folder of a part, as Hive's partitions are named."""
    return f"part={part:04}"


def data_of(
    sha256: str, transactions: int, accounts: int, frauds: int, first_us: int, last_us: int
) -> Data:
    """What a model says that it was trained on."""
    first, last = (
        datetime.fromtimestamp(time_us / SECOND_US, UTC).isoformat(timespec="seconds")
        for time_us in (first_us, last_us)
    )
    return Data(
        sha256=sha256,
        transactions=transactions,
        accounts=accounts,
        frauds=frauds,
        first=first,
        last=last,
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """Transactions by account in so many parts, whose features stay on disk until needed."""

    folder: Path
    rates: Rates | None
    data: Data
    newest_us: int
    rows_of_part: tuple[int, ...]
    without_rate: dict[str, int]

    @staticmethod
    def are_in(path: Path) -> bool:
        return (path / MANIFEST).is_file()

    @classmethod
    def load(cls, folder: Path, spec: DatasetSpec, rates: Rates | None = None) -> "Parts":
        """The parts in a folder, for a spec of the same features.

        Without `rates` they are those that the parts were written by. Raises ValueError or
        SetupError where the features are others.
        """
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
        own = found["rates"] and Rates.model_validate(found["rates"])
        written_by = DatasetSpec.model_validate(found["spec"])
        check_same_features(spec, FeatureSet(written_by, own), str(folder))
        same_delay = spec.label.delay_days == written_by.label.delay_days
        if found["features"] != FeatureSet(spec, rates or own).digest or not same_delay:
            raise SetupError(
                f"{folder}: it was written by other rates, another label delay or another version: "
                "partition the files again"
            )
        data = Data.model_validate(found["data"])
        counts = tuple(found["rows"]), found["without_rate"]
        return cls(folder, own, data, found["newest_us"], *counts)

    @property
    def sha256(self) -> str:
        return self.data.sha256

    @property
    def left_out(self) -> LeftOut | None:
        """Rows are left out when parts are written."""
        return None

    def rows(self, features: FeatureSet, ranks: Ranks = ALONE) -> Rows:
        """The rows of a rank's parts."""
        place = ranks.share(len(self.rows_of_part))
        first = sum(self.rows_of_part[: place.start])
        count = sum(self.rows_of_part[place])
        features_NF = np.lib.format.open_memmap(self.folder / FEATURES, mode="r")
        account_N = np.empty(count, np.int64)
        time_us_N, known_at_us_N = np.empty_like(account_N), np.empty_like(account_N)
        is_fraud_N = np.empty(count, np.int8)
        at, accounts = 0, 0
        for part in range(len(self.rows_of_part))[place]:
            if not self.rows_of_part[part]:
                continue
            frame = pl.read_parquet(
                self.folder / name_of(part) / TRANSACTIONS,
                columns=["account_id", "time_us", "label", "label_delay_days"],
                glob=False,
            )
            here = slice(at, at + len(frame))
            account_N[here] = frame["account_id"].rle_id().to_numpy() + accounts
            time_us_N[here] = frame["time_us"].to_numpy()
            is_fraud_N[here] = frame["label"].fill_null(UNLABELLED).to_numpy()
            delay_us_N = np.rint(frame["label_delay_days"].fill_null(0.0).to_numpy() * DAY_US)
            known_at_us_N[here] = time_us_N[here] + delay_us_N.astype(np.int64)
            at, accounts = here.stop, int(account_N[here.stop - 1]) + 1
        known_at_us_N[is_fraud_N == UNLABELLED] = NEVER_US
        return Rows(
            features.kinds,
            np.arange(first, first + count),
            features_NF[first : first + count],
            account_N,
            time_us_N,
            is_fraud_N,
            known_at_us_N,
        )
