"""`make client`: writes models.py from the service's types, and the synchronous client.

It needs the service and its development tools. The client itself needs neither.
"""

import json
import re
import subprocess
from pathlib import Path
from subprocess import PIPE
from typing import Any

from datamodel_code_generator import GenerateConfig, InputFileType, generate
from datamodel_code_generator.enums import DataModelType
from datamodel_code_generator.format import Formatter, PythonVersion
from datamodel_code_generator.parser import LiteralType
from fastapi.openapi.utils import get_openapi
from ruff import find_ruff_bin

from app.main import create_app
from app.settings import Settings

PACKAGE = Path(__file__).parent / "src" / "quickstudy_client"
HEADER = '"""{}"""\n\n# Written by `make client`; do not edit.\n{}\n'

SYNCHRONOUS = (
    ("import asyncio\n", "import time\n"),
    ("asyncio.sleep", "time.sleep"),
    ("AsyncClient", "Client"),
    ("all tasks of a program", "all threads of a program"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("aclose", "close"),
    ("async def", "def"),
    ("await ", ""),
)

# Types that the service describes in words only, because generators for other languages make
# nothing useful of a choice of types.
ATTRIBUTE = [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]
VALUE = [{"type": "number"}, {"type": "string"}, {"type": "null"}]


def files() -> dict[Path, str]:
    """The text of every file that this program writes."""
    return {
        PACKAGE / "models.py": _formatted(_models()),
        PACKAGE / "synchronous.py": _formatted(_synchronous()),
    }


def _models() -> str:
    """Pydantic models of all request bodies and answers.

    Not from the published document: for generators of other languages it has a choice of two
    objects merged into one object.
    """
    app = create_app(Settings(database_url="sqlite:///unused.db"))
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = {
        name: _bare(schema)
        for name, schema in document["components"]["schemas"].items()
        # Pages are generic: quickstudy_client.types. The others are FastAPI's own.
        if not name.startswith("Page_") and name not in ("HTTPValidationError", "ValidationError")
    }
    del schemas["PostedTransaction"]["properties"]["amount"]["pattern"]  # The type below has it.
    for name in ("PostedTransaction", "StoredTransaction"):
        schemas[name]["properties"]["attributes"]["additionalProperties"] = {"anyOf": ATTRIBUTE}
    # Their bounds would become a type of their own; the service checks them.
    schemas["PostedTransaction"]["properties"]["entities"]["additionalProperties"] = {
        "type": "string"
    }
    for name in ("observed", "usual"):
        schemas["Reason"]["properties"][name]["anyOf"] = VALUE
    config = GenerateConfig(
        input_file_type=InputFileType.OpenAPI,
        output_model_type=DataModelType.PydanticV2BaseModel,
        target_python_version=PythonVersion.PY_311,
        enum_field_as_literal=LiteralType.All,
        type_mappings=["date-time=string"],
        strict_nullable=True,
        type_overrides={"PostedTransaction.amount": "quickstudy_client.types.Amount"},
        use_annotated=True,
        use_schema_description=True,
        use_field_description=True,
        use_single_line_docstring=True,
        use_double_quotes=True,
        disable_future_imports=True,
        custom_file_header=HEADER.format(
            "What is posted and what is answered.", "# ruff: noqa: E501"
        ),
        formatters=[Formatter.BUILTIN],
    )
    document = {"openapi": "3.1.0", "info": document["info"], "components": {"schemas": schemas}}
    return str(generate(json.dumps(document), config=config))


def _bare(part: Any) -> Any:
    """A schema without titles and examples, and with nullable texts as one type."""
    if isinstance(part, list):
        return [_bare(item) for item in part]
    if not isinstance(part, dict):
        return part
    # A property may have the name of a keyword; it is then an object.
    kept = {
        key: _bare(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str)) and key != "examples"
    }
    match kept.get("anyOf"):
        case [{"type": "string", **constraints}, {"type": "null"}] if "enum" not in constraints:
            del kept["anyOf"]
            kept |= {"type": ["string", "null"], **constraints}
    return kept


def _synchronous() -> str:
    text = (PACKAGE / "asynchronous.py").read_text().partition('"""\n\n')[2]
    for asynchronous, synchronous in SYNCHRONOUS:
        text = text.replace(asynchronous, synchronous)
    if left := re.findall(r".*(?i:async|await).*", text):
        raise SystemExit(f"generate.py has no synchronous form of: {left}")
    return HEADER.format("The client of programs without asyncio.", "") + text


def _formatted(text: str) -> str:
    """The text as `ruff` leaves it in this package."""
    for command in (("check", "--quiet", "--fix", "--select", "I"), ("format",)):
        ruff = (find_ruff_bin(), *command, "--stdin-filename", PACKAGE / "client.py", "-")
        text = subprocess.run(ruff, input=text, stdout=PIPE, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
