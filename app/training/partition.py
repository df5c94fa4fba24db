"""Transactions as parts by account, with the features of all, for data larger than memory.

Rows go through the gate in chunks. DuckDB numbers accounts, entities and links, and sorts all rows
by time; both go to disk where memory ends. Then one walk in the order of time writes the features:
the kernel and the order are those of a file in memory, so every bit is the same. In memory are a
chunk of rows, and the states of all accounts and entities.

Axes: N rows, K kinds of entities, F features.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import polars as pl

from app.errors import SetupError
from app.learner.features import EntityLabels, FeatureSet
from app.learner.money import Rates
from app.learner.spec import Columns, DatasetSpec, LabelDelay, toml_of
from app.learner.spelling import Time
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US, NO_ENTITY, TransactionColumns
from app.training.dataset import dataset_of
from app.training.entries import SAME_ID, UNLABELLED, Entries, clear, entries_of
from app.training.files import DataError, digest_of
from app.training.left_out import LeftOut, LeftOutOfMany, NothingLeft
from app.training.parts import FEATURES, MANIFEST, SPEC, TRANSACTIONS, Parts, data_of, name_of
from app.training.table import Table

CHUNK_ROWS, PART_ROWS = 200_000, 250_000
SORTING_MEMORY = "1500MB"
UNFINISHED = "_unfinished"


class Counts(NamedTuple):
    """How many there are in all, and when the newest row was."""

    accounts: int
    entities: int
    links: int
    newest_us: int


def partition(
    path: Path, spec: DatasetSpec, rates: Rates | None, folder: Path, parts: int | None
) -> tuple[Parts, LeftOutOfMany]:
    """Write the transactions of files as so many parts, and the features of all of them.

    Without `parts` each has about PART_ROWS rows. Raises SetupError where the folder has something
    in it already, and DataError for rows that cannot be read.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SetupError(f"{folder}: there is something in it already; name a new folder")
    aside = folder / UNFINISHED
    aside.mkdir(parents=True)
    try:
        rows, left_out = _staged(path, spec, aside)
        count = parts or max(1, round(rows / PART_ROWS))
        features = FeatureSet(spec, rates)
        counts = _sorted(path, spec, aside, count)
        walk = _Walk(path, features, aside, counts)
        for frame in _chunks(aside / "sorted.parquet"):
            walk.add(frame)
        rows_of = _written(folder, spec, features, count)
    finally:
        shutil.rmtree(aside)
    sha256, accounts = digest_of(path, spec.file), counts.accounts
    span = walk.first_us, counts.newest_us
    data = data_of(sha256, sum(rows_of), accounts, walk.frauds, *span)
    (folder / SPEC).write_text(toml_of(_spec_of_parts(spec)), "utf-8")
    described = {
        "spec": spec.model_dump(mode="json"),
        "rates": rates and rates.model_dump(mode="json"),
        "features": features.digest,
        "data": data.model_dump(),
        "newest_us": counts.newest_us,
        "rows": rows_of,
        "without_rate": walk.without_rate,
    }
    (folder / MANIFEST).write_text(json.dumps(described), "utf-8")
    return Parts.load(folder, spec, rates), left_out


def _staged(path: Path, spec: DatasetSpec, aside: Path) -> tuple[int, LeftOutOfMany]:
    """Let all rows through the gate, chunk by chunk; how many there are, and what is left out."""
    rows, left_out = 0, LeftOutOfMany(path, spec)
    # How many may be left out is said of all rows.
    share = 1.0 if spec.rows.leave_out else 0.0
    rules = spec.rows.model_copy(update={"leave_out": share})
    lenient = spec.model_copy(update={"rows": rules})
    # Of rows that belong together some might be in another chunk.
    is_row_alone = spec.rows.same_transaction == "refuse" and not spec.label.chargebacks
    for n, table in enumerate(
        Table.chunks(path, lenient, CHUNK_ROWS, aside if is_row_alone else None)
    ):
        if not len(table):
            continue
        if n and spec.label.chargebacks:
            raise DataError(
                f"{path}: its chargebacks are rows of their own, which may be in another file than "
                "their payments: put all into one file, or train on the files themselves"
            )
        try:
            entries = entries_of(table)
        except NothingLeft as nothing:
            left_out.add(nothing.left_out)
            continue
        left_out.add(entries.left_out)
        _frame_of(entries, spec, rows).write_parquet(aside / f"rows-{n:06}.parquet")
        rows += len(entries)
    left_out.check()
    if not rows:
        raise DataError(f"{path}: there is no transaction in it")
    return rows, left_out


def _frame_of(entries: Entries, spec: DatasetSpec, first: int) -> pl.DataFrame:
    """Entries by the columns of parts, and what only the walk reads of them."""
    written_N = entries.written_N.fill_null(pl.Series(entries.amount_N).cast(pl.String))
    return pl.DataFrame(
        {
            # Chunks have the file's order, and rows of one instant keep it.
            "place": np.arange(first, first + len(entries)),
            "transaction_id": entries.ids_N,
            "account_id": entries.accounts_N,
            "time_us": entries.time_us_N,
            "amount": written_N,
            "value": entries.amount_N,
            "currency": entries.currency_N,
            "type": entries.types_N,
            "status": entries.statuses_N,
            "is_fraud": entries.is_fraud_N,
            "known_at_us": entries.known_at_us_N,
            "fraud_kind": entries.fraud_kinds_N,
            **{_entity(kind): entries.entities[kind] for kind in spec.entity_names},
            **{_category(name): entries.categories[name] for name in spec.categorical_names},
            **{
                _number(name): pl.Series(entries.numeric_NM[:, m]).fill_nan(None)
                for m, name in enumerate(spec.numeric_names)
            },
        }
    )


def _entries_of(frame: pl.DataFrame, path: Path, spec: DatasetSpec, newest_us: int) -> Entries:
    """The same back again; labels that come of time are those of all rows."""
    is_fraud_N = frame["is_fraud"].to_numpy(writable=True)
    known_at_us_N = frame["known_at_us"].to_numpy(writable=True)
    time_us_N = frame["time_us"].to_numpy()
    clear(spec.label, time_us_N, is_fraud_N, known_at_us_N, newest_us)
    return Entries(
        ids_N=frame["transaction_id"],
        accounts_N=frame["account_id"],
        time_us_N=time_us_N,
        amount_N=frame["value"].to_numpy(),
        written_N=frame["amount"],
        currency_N=frame["currency"],
        types_N=frame["type"],
        statuses_N=frame["status"],
        categories={name: frame[_category(name)] for name in spec.categorical_names},
        entities={kind: frame[_entity(kind)] for kind in spec.entity_names},
        numeric_NM=_numbers(frame, spec),
        is_fraud_N=is_fraud_N,
        known_at_us_N=known_at_us_N,
        fraud_kinds_N=frame["fraud_kind"],
        left_out=LeftOut(Table(path, (), spec, frame, np.arange(len(frame)))),
    )


def _numbers(frame: pl.DataFrame, spec: DatasetSpec) -> Floats:
    number_NM = np.empty((len(frame), len(spec.numeric_names)))
    for m, name in enumerate(spec.numeric_names):
        number_NM[:, m] = frame[_number(name)].fill_null(np.nan).to_numpy()
    return number_NM


def _sorted(path: Path, spec: DatasetSpec, aside: Path, parts: int) -> Counts:
    """Number accounts, entities and links, and sort all rows by time, on disk where it must."""
    settings = {"memory_limit": SORTING_MEMORY, "temp_directory": str(aside / "spilled")}
    with duckdb.connect(aside / "numbers.duckdb", config={**settings, "threads": 2}) as base:
        base.execute("SET preserve_insertion_order = false")
        base.read_parquet(str(aside / "rows-*.parquet")).create_view("staged")
        _check_unique(base, path, spec, aside)
        base.execute(
            "CREATE TABLE accounts AS SELECT *, row_number() OVER (ORDER BY part, account_id) - 1 "
            f"AS account_place FROM (SELECT DISTINCT account_id, md5_number_lower(account_id) % "
            f"{parts} AS part FROM staged)"
        )
        selected, joins = (
            ["staged.*", "part", "account_place"],
            ["JOIN accounts USING (account_id)"],
        )
        entities = links = 0
        for k, kind in enumerate(spec.entity_names):
            column = _quoted(_entity(kind))
            base.execute(
                f"CREATE TABLE entities_{k} AS SELECT id, row_number() OVER (ORDER BY id) - 1 + "
                f"{entities} AS place FROM (SELECT DISTINCT {column} AS id FROM staged "
                f"WHERE {column} IS NOT NULL)"
            )
            base.execute(
                f"CREATE TABLE links_{k} AS SELECT id, account_id, row_number() OVER () - 1 + "
                f"{links} AS place FROM (SELECT DISTINCT {column} AS id, account_id FROM staged "
                f"WHERE {column} IS NOT NULL)"
            )
            selected += [f"entities_{k}.place AS entity_{k}", f"links_{k}.place AS link_{k}"]
            joins.append(
                f"LEFT JOIN entities_{k} ON {column} = entities_{k}.id LEFT JOIN links_{k} ON "
                f"{column} = links_{k}.id AND staged.account_id = links_{k}.account_id"
            )
            entities += _number_of(base, f"entities_{k}")
            links += _number_of(base, f"links_{k}")
        base.execute(
            f"COPY (SELECT {', '.join(selected)} FROM staged {' '.join(joins)} "
            f"ORDER BY time_us, staged.place) TO '{aside / 'sorted.parquet'}' "
            "(FORMAT parquet, ROW_GROUP_SIZE 50000)"
        )
        newest = base.execute("SELECT max(time_us) FROM staged").fetchone()
        assert newest is not None
        return Counts(_number_of(base, "accounts"), entities, links, int(newest[0]))


def _check_unique(
    base: duckdb.DuckDBPyConnection, path: Path, spec: DatasetSpec, aside: Path
) -> None:
    """The gate sees a chunk at a time: two of one id may stand in different ones."""
    again = base.execute(
        "SELECT transaction_id FROM staged GROUP BY transaction_id HAVING count(*) > 1 "
        "ORDER BY min(place) LIMIT 1"
    ).fetchone()
    if again is None:
        return
    named, between = spec.columns.transaction, spec.rows.joined_by
    # Where the two stand is sought only now.
    places = [
        table.place(int(row))
        for table in Table.chunks(path, spec, CHUNK_ROWS, aside)
        for row in np.flatnonzero(table.text(named, between).eq_missing(again[0]).to_numpy())
    ]
    cure = SAME_ID
    if spec.rows.same_transaction != "refuse":
        cure = f"rows of one order must stand in one file, and in {CHUNK_ROWS:,} rows of Parquet"
    raise DataError(f"{path}: {places[1]}: the id {again[0]!r} is already in {places[0]}; {cure}")


def _number_of(base: duckdb.DuckDBPyConnection, table: str) -> int:
    found = base.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert found is not None
    return int(found[0])


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _chunks(path: Path) -> Iterator[pl.DataFrame]:
    """All rows in the order of time."""
    source = pl.scan_parquet(path, glob=False)
    rows = int(source.select(pl.len()).collect().item())
    for first in range(0, rows, CHUNK_ROWS):
        yield source.slice(first, CHUNK_ROWS).collect()


class _Walk:
    """The features of all rows, written part by part as they come in the order of time."""

    def __init__(self, path: Path, features: FeatureSet, aside: Path, counts: Counts) -> None:
        self._path, self._features, self._aside, self._counts = path, features, aside, counts
        self._memory = features.empty(counts.accounts, counts.entities, counts.links)
        self._waiting, self._chunks = EntityLabels.none(), 0
        self.frauds, self.first_us = 0, 0
        self.without_rate: dict[str, int] = {}

    def add(self, frame: pl.DataFrame) -> None:
        features, spec = self._features, self._features.spec
        entries = _entries_of(frame, self._path, spec, self._counts.newest_us)
        dataset = dataset_of(self._path, entries, spec, features.rates)
        dataset = replace(dataset, columns=_at_places(dataset.columns, frame))
        if not self._chunks:
            self.first_us = int(entries.time_us_N[0])
        self.frauds += int((entries.is_fraud_N == 1).sum())
        for currency, count in dataset.without_rate.items():
            self.without_rate[currency] = self.without_rate.get(currency, 0) + count
        labels = _joined(self._waiting, dataset.entity_labels(spec.label.delay_us))
        # Later chunks may begin at this one's last instant, whose rows do not see its labels.
        is_due_E = labels.time_us_E < entries.time_us_N[-1]
        features_NF = features.serve(dataset.columns, self._memory, labels.take(is_due_E))
        self._waiting = labels.take(~is_due_E)
        labelled = pl.Series(entries.is_fraud_N != UNLABELLED)
        delay_N = (pl.Series(entries.known_at_us_N) - pl.Series(entries.time_us_N)) / DAY_US
        kept = frame.with_columns(
            pl.when(labelled).then(pl.Series(entries.is_fraud_N)).alias("label"),
            pl.when(labelled).then(delay_N).alias("label_delay_days"),
        ).select("part", "account_place", *_columns(spec))
        for (part,), rows in kept.with_row_index("row").group_by("part", maintain_order=True):
            folder = self._aside / name_of(int(str(part)))
            folder.mkdir(exist_ok=True)
            with (folder / "features").open("ab") as file:
                file.write(features_NF[rows["row"].to_numpy()].tobytes())
            rows.drop("row", "part").write_parquet(folder / f"{self._chunks:06}.parquet")
        self._chunks += 1


def _at_places(columns: TransactionColumns, frame: pl.DataFrame) -> TransactionColumns:
    """The columns of a chunk, with positions among all accounts, entities and links."""
    kinds = range(columns.entity_NK.shape[1])
    places = dict[str, Ints]()
    for name in ("entity", "link"):
        places[name] = np.empty(columns.entity_NK.shape, np.int64)
        for k in kinds:
            places[name][:, k] = frame[f"{name}_{k}"].fill_null(NO_ENTITY).to_numpy()
    account_N = frame["account_place"].to_numpy()
    return replace(columns, account_N=account_N, entity_NK=places["entity"], link_NK=places["link"])


def _joined(some: EntityLabels, others: EntityLabels) -> EntityLabels:
    """Labels and those of later rows: of equal times in the order of their rows."""
    return EntityLabels(
        np.concatenate([some.entity_E, others.entity_E]),
        np.concatenate([some.time_us_E, others.time_us_E]),
        np.concatenate([some.is_fraud_E, others.is_fraud_E]),
    )


def _written(folder: Path, spec: DatasetSpec, features: FeatureSet, parts: int) -> list[int]:
    """Put the parts in place, each by account and time; how many rows each has."""
    width, aside = len(features.names), folder / UNFINISHED
    frames = [sorted((aside / name_of(part)).glob("*.parquet")) for part in range(parts)]
    rows = [
        sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in some)
        for some in frames
    ]
    whole_NF = np.lib.format.open_memmap(folder / FEATURES, "w+", np.float32, (sum(rows), width))
    first = 0
    for part, some in enumerate(frames):
        target = folder / name_of(part)
        target.mkdir()
        if not some:
            continue
        frame = pl.concat([pl.read_parquet(file) for file in some])
        order_N = np.lexsort((frame["time_us"].to_numpy(), frame["account_place"].to_numpy()))
        frame[order_N].select(_columns(spec)).write_parquet(target / TRANSACTIONS)
        features_NF = np.fromfile(aside / name_of(part) / "features", np.float32)
        whole_NF[first : first + len(frame)] = features_NF.reshape(-1, width)[order_N]
        first += len(frame)
        shutil.rmtree(aside / name_of(part))
    whole_NF.flush()
    return rows


def _columns(spec: DatasetSpec) -> list[str]:
    """The columns of parts, as their own spec names them."""
    fixed = ["transaction_id", "account_id", "time_us", "amount", "currency", "type", "status"]
    named = [*map(_entity, spec.entity_names), *map(_category, spec.categorical_names)]
    others = ["label", "label_delay_days", "fraud_kind", *map(_number, spec.numeric_names)]
    # The type may be a category, too.
    return list(dict.fromkeys([*fixed, *named, *others]))


def _spec_of_parts(spec: DatasetSpec) -> DatasetSpec:
    """The spec by which parts are read as ordinary files."""
    return DatasetSpec(
        name=spec.name,
        columns=Columns(
            transaction="transaction_id",
            account="account_id",
            time="time_us",
            amount=spec.columns.amount and "amount",
            currency="currency" if spec.has_currencies else None,
            type="type",
            status="status",
            label="label",
            fraud_kind=spec.columns.fraud_kind and "fraud_kind",
        ),
        time=Time(unit="microseconds"),
        label=LabelDelay(delay_days=spec.label.delay_days, delay_column="label_delay_days"),
        entities={kind: _entity(kind) for kind in spec.entities},
        categorical={name: _category(name) for name in spec.categorical},
        numeric={name: _number(name) for name in spec.numeric},
        backtest=spec.backtest,
    )


def _entity(kind: str) -> str:
    return f"entity.{kind}"


def _category(name: str) -> str:
    return "type" if name == "type" else f"category.{name}"


def _number(name: str) -> str:
    return f"number.{name}"
