"""Instants in and out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.times import FIRST_US, LAST_US, RFC_3339, parse_us, text_of


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
    with pytest.raises(ValueError, match=r"^(a time must |there is no such date or time of day$)"):
        parse_us(text)


@pytest.mark.parametrize("second", ["2016-12-31T23:59:60Z", "2026-01-31T12:00:60.5+01:00"])
def test_a_leap_second_is_refused_with_what_to_send_instead(second: str) -> None:
    with pytest.raises(ValueError, match=r"^leap seconds are not supported; send second 60 as 59$"):
        parse_us(second)


@pytest.mark.parametrize("offset", ["+99:59", "-24:00", "+23:60", "+12:99"])
def test_an_offset_is_less_than_a_day(offset: str) -> None:
    with pytest.raises(ValueError, match=r"^an offset must lie between -23:59 and \+23:59$"):
        parse_us(f"2026-01-31T12:00:00{offset}")


@given(st.from_regex(RFC_3339, fullmatch=True))
def test_whatever_looks_like_a_time_is_one_or_is_refused_in_our_words(text: str) -> None:
    refusal = ""
    try:
        parse_us(text)
    except ValueError as refused:
        refusal = str(refused)
    assert re.match("$|a time must |there is no such|leap seconds|an offset must", refusal)
