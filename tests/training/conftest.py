"""The small simulated file that the tests of training share."""

from collections.abc import Iterator

import pytest

from app.training.episodes import Rows
from app.training.run import Source
from tests.training.files import rows_of, simulated_source


@pytest.fixture(autouse=True, scope="module")
def short_checks() -> Iterator[None]:
    """A training that is checked on one batch: of so short a one, that is most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.training.train.MOST_BATCHES", 1)
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return simulated_source(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def rows(source: Source) -> Rows:
    return rows_of(source.dataset)
