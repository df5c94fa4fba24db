"""The documents say all that there is: every route, setting and error code, and nothing else."""

import re
from pathlib import Path

import pytest

from app.http.problems import kinds
from app.main import create_app
from app.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
API = (REPOSITORY / "docs" / "api.md").read_text()
README = (REPOSITORY / "README.md").read_text()


def test_every_route_stands_in_the_documents_with_the_errors_of_its_own() -> None:
    everywhere = {
        *("unauthenticated", "missing_scope", "validation_failed", "database_unavailable"),
        *("rate_limited", "deadline_exceeded", "overloaded"),
        *("malformed_body", "body_too_large", "unsupported_encoding"),
    }
    document = create_app(Settings(database_url="sqlite:///unused.db")).openapi()
    offered = {
        f"{method.upper()} {path}": {
            code
            for response in operation["responses"].values()
            for content in response["content"].values()
            for code in content.get("examples", {})
        }
        - everywhere
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \| .*? \| (.*?) ?\|$", API, re.MULTILINE)
    assert {route: set(re.findall(r"`(\w+)`", errors)) for route, errors in rows} == offered


def test_every_error_code_stands_in_the_documents_with_its_status() -> None:
    told = re.findall(r"^\| (\d{3}) \| `(\w+)` \| \S.* \|$", API, re.MULTILINE)
    assert sorted(told) == sorted((str(kind.status), kind.code) for kind in kinds())


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    table = "\n".join(line for line in README.splitlines() if line.startswith("| `QUICKSTUDY_"))
    settings = {
        f"QUICKSTUDY_{name.upper()}": field for name, field in Settings.model_fields.items()
    }
    assert set(re.findall(r"QUICKSTUDY_\w+", table)) == settings.keys()
    for name, field in settings.items():
        [row] = [line for line in table.splitlines() if f"`{name}`" in line]
        if name != "QUICKSTUDY_MODEL":
            assert f"`{field.default}`" in row


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
