"""Databases as earlier versions left them, and the models that scored there."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from sqlalchemy import MetaData, Table, create_engine, insert, select

from app.db.database import Database
from app.db.migrating import upgrade
from app.learner.network import shapes

DATA = Path(__file__).parent / "data"
# Two tenants: 24 payments by three accounts at three merchants, nine labels, one of them removed
# again, so that two others were corrected. The weights of the model that scored are left out.
REVISION = "0017"
CODE = "_code"
OWN = ("log_amount", "hour_sin", "hour_cos", "weekend")


def database_of_0017(url: str, folder: Path) -> None:
    """Make a database as the version with schema revision 0017 left it, at that revision.

    Its rows stand in `data/version-0017.sql`, as that version has written them.
    """
    upgrade(url, REVISION)
    file = folder / "0017.db"
    upgrade(f"sqlite:///{file}", REVISION)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((DATA / "version-0017.sql").read_text())
        [described] = connection.execute("SELECT description FROM checkpoints").fetchone()
        connection.execute("UPDATE checkpoints SET weights = ?", [weights(described)])
        connection.commit()
    asyncio.run(_write(url, _rows(f"sqlite:///{file}")))


def weights(described: bytes) -> bytes:
    """The weights of the model that scored there, as their file holds them."""
    names = json.loads(described)["features"]
    kinds = ["code" if name.endswith(CODE) else "history" for name in names]
    for n, name in enumerate(names):
        if name in OWN or name.startswith("attribute_"):
            kinds[n] = "own"
    then = shapes(kinds, "anil")
    # Labels were six counts, read by the trunk alone, the inner loss was a mean, and a copy moved
    # all payments alike.
    for name in ("network.wide_relation_IM", "log_prior"):
        del then[name]
    for name in ("reach", "habit", "pardon"):
        del then[f"gate.{name}"]
    units, _ = then["network.relation.weight"]
    then["network.relation.weight"] = units, kinds.count("own") + 6
    return save(dict(_arrays(then)))


def _arrays(
    wanted: Mapping[str, tuple[int, ...]],
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    chosen = np.random.default_rng(7)
    fixed = {"mean_Z": 0.0, "spread_Z": 1.0, "known_CV": 0.0, "trust": 3.0, "heed": 1.0}
    for name, shape in sorted(wanted.items()):
        last = name.rpartition(".")[2]
        if last == "edges_ZT":
            array = np.tile(np.linspace(-3, 3, shape[1]), (shape[0], 1))
        elif last in fixed or name.startswith("log_step_sizes"):
            array = np.full(shape, fixed.get(last, -2.0))
        else:
            array = chosen.normal(0, 0.05 if "rises" in name else 0.2, shape)
        yield name, np.asarray(array, np.float32)


async def _write(url: str, rows: Mapping[Table, Sequence[dict[str, Any]]]) -> None:
    database = Database(url)
    try:
        async with database.write() as connection:
            for table, some in rows.items():
                await connection.execute(insert(table), some)
    finally:
        await database.close()


def _rows(url: str) -> dict[Table, list[dict[str, Any]]]:
    """All rows of all tables, with the types that their schema has."""
    found, engine = MetaData(), create_engine(url)
    found.reflect(engine)
    with engine.connect() as connection:
        rows = {
            table: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in found.sorted_tables
            if table.name != "alembic_version"
        }
    engine.dispose()
    return {table: some for table, some in rows.items() if some}
