"""Instants in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.times import FIRST_US, LAST_US, parse_us, text_of


@given(st.integers(FIRST_US, LAST_US - 1))
def test_an_instant_is_read_back_from_its_text(time_us: int) -> None:
    assert parse_us(text_of(time_us)) == time_us


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31 12:00:00.000Z",
        "2026-01-31T13:00:00+01:00",
        "2026-01-30T22:30:00.0000009-13:30",
    ],
)
def test_an_instant_is_one_at_every_offset(text: str) -> None:
    assert text_of(parse_us(text)) == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00Z",
        "2026-02-30T12:00:00Z",
        "2026-01-31T24:00:01Z",
        "1969-12-31T23:59:59Z",
        "2101-01-01T00:00:00Z",
        "٢026-01-31T12:00:00Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|range|day|hour|month"):
        parse_us(text)
