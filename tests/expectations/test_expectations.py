"""What a payments team would expect first of the shipped model, from a real service by HTTP.

In four worlds, whose countries, money, shops and hours differ: frauds that anybody would name, and
honest days that look odd.
Neither the worlds nor what happens there was fitted to what the model answers.
"""

import shutil
from pathlib import Path

import httpx
import polars as pl
import pytest
from typer.testing import CliRunner

from app.cli.main import app as command
from app.settings import SHIPPED_MODEL
from app.simulator.simulate import simulate
from tests.conftest import sqlite_url
from tests.expectations.expectations import EXPECTATIONS, HONEST, MOST_WAITING, observe
from tests.expectations.worlds import WORLDS, World, waiting_share
from tests.servers import new_key, server

HISTORY = 100_000
# What the shipped model does not do yet: a fast series on the holder's own device, none of which
# was declined, is held up in three of the four worlds only.
NOT_YET = "Of sixty payments in an hour"

worlds = pytest.mark.parametrize(
    "world",
    [
        pytest.param(world, id=world.name, marks=[pytest.mark.torture] if number else [])
        for number, world in enumerate(WORLDS)
    ],
)


@pytest.fixture(scope="module")
def with_history(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database into which the history of others was imported."""
    folder = tmp_path_factory.mktemp("with-history")
    path, file = folder / "quickstudy.db", folder / "history.parquet"
    shutil.copy(migrated_sqlite, path)
    history: pl.DataFrame = simulate(accounts=800, days=180, seed=5).head(HISTORY)
    assert len(history) == HISTORY
    history.write_parquet(file)
    imported = CliRunner().invoke(
        command,
        ["import", str(file), "--spec", "simulated"],
        env={"QUICKSTUDY_DATABASE_URL": sqlite_url(path), "QUICKSTUDY_DEVICE": "cpu"},
    )
    assert imported.exit_code == 0, imported.output
    return path


@worlds
def test_a_fresh_service_scores_as_people_expect(
    world: World, migrated_sqlite: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    check(world, migrated_sqlite, tmp_path / "quickstudy.db", subtests)


@pytest.mark.torture
@worlds
def test_a_service_with_a_history_scores_as_people_expect(
    world: World, with_history: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    check(world, with_history, tmp_path / "quickstudy.db", subtests)


def check(world: World, template: Path, database: Path, subtests: pytest.Subtests) -> None:
    """Let everything happen in a world, once, and hold each expectation against the answers."""
    shutil.copy(template, database)
    url = sqlite_url(database)
    with (
        server(url, SHIPPED_MODEL) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        client.headers["Authorization"] = f"Bearer {new_key(url)}"
        answers = observe(client, world)
    for expectation in EXPECTATIONS:
        with subtests.test(expectation.sentence):
            holds, words = expectation.judge(answers)
            if not holds and expectation.sentence.startswith(NOT_YET):
                pytest.xfail(words)
            assert holds, words
    for kind in HONEST:
        with subtests.test(f"At most {MOST_WAITING:.0%} of {kind} payments wait."):
            share = waiting_share(answers[kind])
            assert share <= MOST_WAITING, f"{share:.1%} of {len(answers[kind])}"
