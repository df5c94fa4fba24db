"""A spec in the making: its lines, and a comment for each guess."""

import tomllib
from datetime import date
from typing import Any, NamedTuple

from app.learner.spec import Columns, DatasetSpec
from app.training.values import toml_text

SECTIONS = (
    *("columns", "entities", "file", "time", "amount", "types", "statuses", "label", "rows"),
    *("categorical", "numeric"),
)
BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Line(NamedTuple):
    """`is_active` is False for a line that is only proposed."""

    key: str
    value: Any
    comment: str
    is_active: bool = True

    def __str__(self) -> str:
        comment = f"  # {self.comment}" if self.comment else ""
        return f"{'' if self.is_active else '# '}{_key(self.key)} = {_value(self.value)}{comment}"


class Draft:
    """Lines of a spec by their sections."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: dict[str, list[Line]] = {section: [] for section in SECTIONS}
        self._keys = set[str]()
        # What is true of the whole file and has no line of its own.
        self.notes: list[str] = []

    def add(
        self, section: str, key: str, value: Any, comment: str = "", is_active: bool = True
    ) -> None:
        self._lines[section].append(Line(key, value, comment, is_active))
        self._keys.add(key)

    def replace(self, section: str, key: str, value: Any, comment: str) -> None:
        lines = self._lines[section]
        place = [line.key for line in lines].index(key)
        lines[place] = Line(key, value, comment)

    def value(self, section: str, key: str) -> Any:
        """What a line says, None where there is none."""
        found = [line.value for line in self._lines[section] if line.is_active and line.key == key]
        return found[0] if found else None

    def has(self, key: str) -> bool:
        """Whether any line has this key."""
        return key in self._keys

    def comment(self, section: str, key: str) -> str:
        return next((line.comment for line in self._lines[section] if line.key == key), "")

    def text(self) -> str:
        """The TOML that `DatasetSpec.load` reads."""
        parts = [f"name = {toml_text(self.name)}"]
        parts += [f"# {note}" for note in self.notes]
        for section, lines in self._lines.items():
            if lines:
                # Active lines first, each section in its usual order.
                usual = sorted(lines, key=lambda line: (not line.is_active, _place(line.key)))
                parts += ["", f"[{section}]", *map(str, usual)]
        return "\n".join(parts) + "\n"

    def spec(self) -> DatasetSpec:
        return DatasetSpec.model_validate(tomllib.loads(self.text()))


def _place(key: str) -> int:
    names = list(Columns.model_fields)
    return names.index(key) if key in names else len(names)


def _key(key: str) -> str:
    return key if key and set(key) <= BARE else toml_text(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return toml_text(value)
    return repr(value)
