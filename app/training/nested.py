"""The columns of objects of JSON, also of those inside of others."""

import io
from pathlib import Path
from typing import Any

import polars as pl

from app.objects import nested_name


class Nested:
    """The columns of objects, one a line, all values as text; lists stay what they are.

    Raises PolarsError.
    """

    def __init__(self, source: Path | str) -> None:
        inferred = pl.scan_ndjson(_opened(source), infer_schema_length=None).collect_schema()
        self._schema = pl.Schema({name: _as_text(dtype) for name, dtype in inferred.items()})
        self._places: dict[str, list[pl.Expr]] = {}
        for name, dtype in self._schema.items():
            self._place(name, pl.col(name), dtype)

    def _place(self, name: str, value: pl.Expr, dtype: pl.DataType) -> None:
        if not isinstance(dtype, pl.Struct):
            self._places.setdefault(name, []).append(value)
            return
        for field in dtype.fields:
            inner = value.struct.field(field.name)
            self._place(nested_name(name, field.name), inner, _instance(field.dtype))

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def frame(self, source: Path | str, names: list[str], rows: int | None) -> pl.DataFrame:
        """Some columns of the first rows, or of all."""
        return self.rows(source, names, rows).collect()

    def rows(self, source: Path | str, names: list[str], most: int | None = None) -> pl.LazyFrame:
        """The same before they are read."""
        columns = [pl.coalesce(self._places[name]).alias(name) for name in names]
        return pl.scan_ndjson(_opened(source), schema=self._schema, n_rows=most).select(columns)


def _opened(source: Path | str) -> Path | io.BytesIO:
    return source if isinstance(source, Path) else io.BytesIO(source.encode())


def _as_text(dtype: Any) -> pl.DataType:
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _as_text(field.dtype) for field in dtype.fields})
    return dtype if isinstance(dtype, pl.List) else pl.String()


def _instance(dtype: Any) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()
