"""The pages that code knows are up to date, and links lead somewhere."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import tables
from docs.generate import pages
from tests.reliability import figures

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["settings.md", "routes.md", "errors.md", "commands.md"])
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    written = (REPOSITORY / "docs" / name).read_text()
    assert written == pages()[name], "run make docs"


def test_a_page_of_figures_has_those_of_the_last_runs() -> None:
    assert tables.DOCUMENT.read_text() == tables.page(), "run python -m benchmarks.tables"
    written = figures.DOCUMENT.read_text()
    assert written == figures.page(), "run python -m tests.reliability.figures"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_a_page_about_the_code_names_files_that_are_there(name: str) -> None:
    folders = "app|benchmarks|clients|docs|migrations|models|monitoring|tests"
    paths = re.findall(rf"\b((?:{folders})/[\w/.-]*[\w/])", (REPOSITORY / name).read_text())
    assert len(paths) > 30
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize(
    "path", [path for path in (REPOSITORY / "app").rglob("*.py") if ">>> " in path.read_text()]
)
def test_the_examples_of_docstrings_are_true(path: Path) -> None:
    module = import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


def test_contributing_names_every_folder_of_the_code() -> None:
    listed = re.findall(r"^\| `app/(\w+)/` \|", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.M)
    packages = {path.parent.name for path in (REPOSITORY / "app").glob("*/__init__.py")}
    assert set(listed) == packages


@pytest.mark.parametrize(
    "page", sorted(REPOSITORY.glob("*.md")) + sorted((REPOSITORY / "docs").rglob("*.md")), ids=str
)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_of_the_decisions_stands_in_their_list() -> None:
    folder = REPOSITORY / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(page.name for page in folder.glob("[0-9]*.md"))
