"""Texts of JSON whose rows are objects: one a line, in a list, or in a list inside a document."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, NoReturn

MARK = "\ufeff"
SUFFIXES = (".jsonl", ".ndjson", ".json")


class Fault(NamedTuple):
    """A line that is no row, and why."""

    line: int
    reason: str


class Unparsable(ValueError):
    """A text that is not JSON, or holds no rows; the message says where and why."""


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON value")


# Numbers stay as they are written.
_TEXTS = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant)
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def is_by_line(lines: Iterable[str]) -> bool:
    """Whether each line is an object: the first one is, or it is spoilt and the next one is."""
    filled = (line.strip(f"{MARK} \t\r\n") for line in lines)
    some = list(islice((line for line in filled if line), 2))
    return bool(some) and some[0][0] == "{" and any(_fault_of(line) is None for line in some)


def documents(text: str) -> Iterator[Any]:
    """All values of JSON in a text, one after the other. Raises Unparsable."""
    place, text = 0, text.removeprefix(MARK)
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        if place == len(text):
            return
        try:
            value, place = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise Unparsable(f"line {error.lineno} is not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise Unparsable(f"it is not JSON: {error}") from None
        yield value


def listed(text: str, records: str | None) -> str:
    """The rows of a text, one a line: of lists, of documents that hold lists, or of long objects.

    Raises Unparsable where a row is not an object.
    """
    rows = [row for document in documents(text) for row in _rows_of(document, records)]
    for n, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise Unparsable(f"row {n} is not an object: {json.dumps(row)[:40]}")
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _rows_of(document: Any, records: str | None) -> list[Any]:
    if records is None:
        return document if isinstance(document, list) else [document]
    found = document
    for part in records.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise Unparsable(f'it has no list "{records}", which records under [file] names')
    return found


def lists_of(text: str) -> list[str]:
    """The names of lists of objects in a document that is no row itself, but holds rows."""
    found = set[str]()
    for n, document in enumerate(documents(text)):
        is_page = isinstance(document, dict) and (n == 0 or document.get("object") == "list")
        names = {
            name
            for name, value in (document.items() if is_page else ())
            if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
        }
        if n and not names:
            return []
        found |= names
    return sorted(found)


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are rows: blank ones are none."""
    for number, line in enumerate(text.removeprefix(MARK).split("\n"), start=1):
        if line.strip():
            yield number, line


def faults(text: str) -> dict[int, Fault]:
    """The rows of a text, from 0, that are no objects."""
    found = {}
    for row, (number, line) in enumerate(lines(text)):
        if reason := _fault_of(line):
            found[row] = Fault(number, reason)
    return found


def _fault_of(line: str) -> str | None:
    try:
        value = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg} at character {error.colno}"
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    return None if isinstance(value, dict) else f"is not a JSON object: {line.strip()[:40]}"


def without(text: str, broken: dict[int, Fault]) -> str:
    """The text with an empty object in place of each row that is none."""
    return "".join(
        "{}\n" if row in broken else f"{line}\n" for row, (_, line) in enumerate(lines(text))
    )


def nested_name(name: str, inner: str) -> str:
    """What a value inside of another is called: by its path, such as `card.country`.

    What begins with "$" is no part of it: by that MongoDB says of which type a value is.
    """
    return name if inner.startswith("$") else f"{name}.{inner}"


def flat(line: str) -> dict[str, str]:
    """The values of an object as texts; what is null is empty. Raises Unparsable."""
    if reason := _fault_of(line):
        raise Unparsable(f"it {reason}")
    found = dict[str, str]()
    _flatten(found, None, _TEXTS.decode(line))
    return found


def _flatten(found: dict[str, str], name: str | None, value: Any) -> None:
    if isinstance(value, dict):
        for inner, item in value.items():
            _flatten(found, inner if name is None else nested_name(name, inner), item)
    elif name is not None:
        found[name] = _text_of(value)


def _text_of(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
