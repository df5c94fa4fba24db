"""Dates of labels, as a layout says that they are written; those of transactions agree."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from app.labels.files.dates import check_zones, instant_of
from app.learner.spec import DatasetSpec
from app.learner.spelling import Time
from app.times import text_of
from app.training.dataset import read_transactions

BERLIN = {"zone": "Europe/Berlin", "format": "%d.%m.%Y %H:%M"}
READ: list[tuple[str, dict[str, Any], str]] = [
    ("2026-02-03", {}, "2026-02-03T00:00:00"),
    ("2026-02-03 09:30", {}, "2026-02-03T09:30:00"),
    ("2026-02-03T09:30:00.5Z", {}, "2026-02-03T09:30:00.5"),
    ("2026-02-03 09:30:00+01", {}, "2026-02-03T08:30:00"),
    ("2026-02-03T09:30:00-0330", {}, "2026-02-03T13:00:00"),
    ("1770111000", {}, "2026-02-03T09:30:00"),
    ("2026-02-03", {"zone": "+02:00"}, "2026-02-02T22:00:00"),
    ("03.02.2026 09:30", BERLIN, "2026-02-03T08:30:00"),
    ("26.10.2025 02:30", {**BERLIN, "ambiguous": "earlier"}, "2025-10-26T00:30:00"),
    ("26.10.2025 02:30", {**BERLIN, "ambiguous": "later"}, "2025-10-26T01:30:00"),
    ("30.03.2025 02:30", {**BERLIN, "skipped": "shift"}, "2025-03-30T01:30:00"),
    ("36.5", {"unit": "hours", "origin": datetime(2026, 1, 1)}, "2026-01-02T12:30:00"),
    ("1770111000123", {"unit": "milliseconds"}, "2026-02-03T09:30:00.123"),
    ("20260203", {"format": "%Y%m%d"}, "2026-02-03T00:00:00"),
    ("2026/02/09 08:15:00 -0800", {"format": "%Y/%m/%d %H:%M:%S %z"}, "2026-02-09T16:15:00"),
]


@pytest.mark.parametrize(("text", "how", "expected"), READ)
def test_a_date_is_the_time_that_a_file_of_transactions_has_for_it(
    text: str, how: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    known_at_us = instant_of(text, Time(**how))
    assert known_at_us == instant_of(f"{expected}Z", Time()), text_of(known_at_us)
    columns = {"transaction": "id", "account": "id", "time": "time", "amount": "id"}
    spec = DatasetSpec.model_validate({"name": "one", "columns": columns, "time": how})
    path = tmp_path / "one.csv"
    path.write_text(f"id,time\n1,{text}\n")
    assert read_transactions(path, spec).columns.time_us_N.tolist() == [known_at_us]


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        ("", {}, "such as 2026-02-03"),
        ("20260203", {}, "such as 2026-02-03"),
        ("2026-02-31", {}, "such as 2026-02-03"),
        ("1899-12-31", {}, "1970 to 2100"),
        ("2026-02-03", {"format": "%d.%m.%Y"}, "of the format '%d.%m.%Y'"),
        ("soon", {"unit": "hours"}, "a number of hours"),
        ("nan", {"unit": "hours"}, "a number of hours"),
        ("9" * 400, {"unit": "weeks"}, "a number of weeks"),
        ("26.10.2025 02:30", BERLIN, "comes twice in Europe/Berlin"),
        ("30.03.2025 02:30", BERLIN, "does not exist in Europe/Berlin"),
    ],
)
def test_what_is_no_date_is_refused_in_one_sentence(
    text: str, how: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        instant_of(text, Time(**how))


def test_a_row_may_name_its_own_zone() -> None:
    how = Time(zone="Asia/Tokyo", zone_column="zone", zones={"CET": "Europe/Paris"})
    texts = {
        word: text_of(instant_of("2026-07-03 12:00", how, word)) for word in ("CET", "", "UTC")
    }
    hours = {word: at[11:16] for word, at in texts.items()}
    assert hours == {"CET": "10:00", "": "03:00", "UTC": "12:00"}
    with pytest.raises(ValueError, match="'PDT' is not a time zone"):
        instant_of("2026-07-03 12:00", how, "PDT")
    with pytest.raises(ValueError, match="'Mars' is not a time zone"):
        check_zones(Time(zones={"M": "Mars"}))
