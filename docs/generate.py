"""Write the pages of docs/ whose content the code knows: settings, routes, errors and commands.

Run by `make docs`; tests/test_docs.py fails where a page is not what the code says.
"""

import ast
import inspect
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from app.cli.main import app as commands
from app.errors import Problem
from app.http.problems import EVERYWHERE, kinds
from app.main import create_app
from app.settings import SHIPPED_MODEL, Settings

DOCS = Path(__file__).parent
NOTICE = "<!-- Written by docs/generate.py from the code: do not edit. -->\n\n"
PAGING = {"limit", "cursor"}
# What reading a body can fail with, whichever route it is for.
OF_BODIES = {"malformed_body", "body_too_large", "unsupported_encoding"}


def pages() -> dict[str, str]:
    """The text of each generated page, by its file name in docs/."""
    return {
        "settings.md": _settings_page(),
        "routes.md": _routes_page(),
        "errors.md": _errors_page(),
        "commands.md": _commands_page(),
    }


def _settings_page() -> str:
    schema = Settings.model_json_schema()["properties"]
    descriptions = _descriptions()
    rows = [
        (
            f"`QUICKSTUDY_{name.upper()}`",
            _default(field.default),
            _allowed_values(schema[name]),
            descriptions[name],
        )
        for name, field in Settings.model_fields.items()
    ]
    return f"""# Settings

{NOTICE}Settings are environment variables.
A setting may also be a file, such as `/run/secrets/quickstudy_database_url`.
Where there are both, the variable counts.
A wrong value is refused at the start.
A name that is probably misspelled is ignored, and the log warns of it.

{_table(("setting", "default", "values", "meaning"), rows)}"""


def _descriptions() -> dict[str, str]:
    """The text below each setting. Pydantic could read it too, at every start of the service."""
    [settings] = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body
    assert isinstance(settings, ast.ClassDef)
    return {
        setting.target.id: " ".join(text.value.value.split())
        for setting, text in pairwise(settings.body)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _default(value: object) -> str:
    if value is None:
        return "not set"
    if value == SHIPPED_MODEL:
        return f"`{SHIPPED_MODEL.relative_to(DOCS.parent)}`, the shipped one"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed_values(schema: dict[str, Any]) -> str:
    """The type of a setting and its bounds, from its JSON schema."""
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
    }
    stated = [f"{words} {schema[bound]}" for bound, words in bounds.items() if bound in schema]
    kind = {"string": "text", "boolean": "`true`, `false`"}.get(schema["type"], schema["type"])
    return ", ".join(["path" if schema.get("format") == "path" else kind, *stated])


def _routes_page() -> str:
    document = create_app(Settings(database_url="sqlite:///unused.db")).openapi()
    rows = [
        (
            f"`{method.upper()} {path}`",
            ", ".join(f"`{scope}`" for scope in _scopes(operation)),
            " ".join(operation["description"].split("\n\n")[0].split()),
            ", ".join(f"`{name}`" for name in _filters(operation)),
            ", ".join(f"`{code}`" for code in _own_errors(operation)),
        )
        for path, item in sorted(document["paths"].items())
        for method, operation in item.items()
    ]
    header = ("route", "scope", "what it does", "query", "errors of its own")
    return f"""# Routes

{NOTICE}Each route needs a key with its scope; those without a scope need no key.
[The API](api.md) says how they behave, `/openapi.json` of a running service has every field.
Lists take `limit` and `cursor` as well.
[Errors that every route may answer](errors.md) are not repeated here.

{_table(header, rows)}"""


def _scopes(operation: dict[str, Any]) -> list[str]:
    return [
        scope
        for scheme in operation.get("security", [])
        for scopes in scheme.values()
        for scope in scopes
    ]


def _filters(operation: dict[str, Any]) -> list[str]:
    return [
        parameter["name"]
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query" and parameter["name"] not in PAGING
    ]


def _own_errors(operation: dict[str, Any]) -> list[str]:
    codes = {
        code
        for response in operation["responses"].values()
        for content in response["content"].values()
        for code in content.get("examples", {})
    }
    return sorted(codes - {problem.code for problem in EVERYWHERE} - OF_BODIES)


def _errors_page() -> str:
    everywhere = ", ".join(f"`{problem.code}`" for problem in EVERYWHERE)
    of_bodies = ", ".join(f"`{code}`" for code in sorted(OF_BODIES))
    rows = [
        (f"`{kind.code}`", str(kind.status), kind.title, _remedy(kind))
        for kind in sorted(kinds(), key=lambda kind: (kind.status, kind.code))
    ]
    return f"""# Errors

{NOTICE}Every error is an `application/problem+json` (RFC 9457).
Programs go by its `code`, which is stable.
Every route under `/v1` may answer {everywhere}.
A route that takes a body may also answer {of_bodies}.

{_table(("code", "status", "title", "what to do"), rows)}"""


def _remedy(kind: type[Problem]) -> str:
    """What a caller is to do: the docstring of the error, which each has of its own."""
    return " ".join(inspect.cleandoc(vars(kind)["__doc__"]).split())


def _commands_page() -> str:
    root = typer.main.get_command(commands)
    assert isinstance(root, typer.core.TyperGroup)
    rows = []
    for name, command in root.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            rows += [(f"{name} {below}", _help_of(it)) for below, it in command.commands.items()]
        else:
            rows.append((name, _help_of(command)))
    return f"""# Commands

{NOTICE}`quickstudy COMMAND --help` has the options of each.

{_table(("command", "what it does"), [(f"`quickstudy {name}`", text) for name, text in rows])}"""


def _help_of(command: Any) -> str:
    return " ".join((command.help or "").split())


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    for name, text in pages().items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
