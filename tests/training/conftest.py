"""The small simulated file that the tests of training share."""

import pytest

from app.training.episodes import Rows
from app.training.run import Source
from tests.training.files import rows_of, simulated_source


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return simulated_source(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def rows(source: Source) -> Rows:
    return rows_of(source.dataset)
