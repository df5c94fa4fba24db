"""`quickstudy labels`: files of other layouts, what cannot be used, and running it again."""

import bz2
import csv
import gzip
import json
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.simulator.simulate import simulate

LAYOUT = """
name = "other"
source = "dispute"
[columns]
transaction = "id"
label = "Grund"
date = "Tag"
[label]
fraud = ["Betrug", "gestohlen"]
legitimate = ["gültig"]
unknown = ["offen"]
[time]
format = "%d.%m.%Y %H:%M"
zone = "Europe/Berlin"
ambiguous = "earlier"
[file]
delimiter = ";"
encoding = "latin-1"
"""
PAID = [f"t0000000{n}" for n in range(8)]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A database of payments without labels."""
    folder = tmp_path_factory.mktemp("seeded")
    unlabelled = pl.lit(None, pl.Boolean).alias("is_fraud")
    path = folder / "payments.parquet"
    simulate(accounts=3, days=20, seed=5).head(len(PAID)).with_columns(unlabelled).write_parquet(
        path
    )
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder, checkpoint)
        run("import", str(path), "--spec", "simulated")
    return folder / "quickstudy.db"


@pytest.fixture(autouse=True)
def _environment(
    seeded: Path, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(seeded, tmp_path)
    use(monkeypatch, tmp_path, checkpoint)
    monkeypatch.chdir(tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, checkpoint: Path) -> None:
    for name, value in {
        "DATABASE_URL": f"sqlite:///{folder / 'quickstudy.db'}",
        "MODEL": str(checkpoint),
        "DEVICE": "cpu",
    }.items():
        monkeypatch.setenv(f"QUICKSTUDY_{name}", value)


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status, result.output
    return result


def stored() -> dict[str, tuple[bool, datetime]]:
    """The label of each payment that has one, and when it became known."""
    run("export", "all.parquet")
    frame = pl.read_parquet("all.parquet").drop_nulls("is_fraud")
    return {
        key: (is_fraud, datetime.fromisoformat(at) + timedelta(days=days))
        for key, is_fraud, at, days in frame.select(
            "transaction_id", "is_fraud", "occurred_at", "label_delay_days"
        ).iter_rows()
    }


def test_a_layout_says_what_the_words_the_dates_and_the_bytes_mean() -> None:
    Path("other.toml").write_text(LAYOUT)
    rows = (
        "id;Grund;Tag;sonst",
        f"{PAID[0]};Betrug;03.02.2026 09:30;",
        f"{PAID[1]};GÜLTIG;03.07.2025 09:30;;",
        f'{PAID[2]}; gestohlen ;"26.10.2025 02:30";x',
        f"{PAID[3]};offen;03.02.2026 09:30;",
        f"{PAID[4]};Verlust;03.02.2026 09:30;",
        f"{PAID[5]};Betrug;2026-02-03;",
        "fremd;Betrug;03.02.2026 09:30;",
        f"{PAID[6]};gültig;03.07.2025 09:30;",
    )
    Path("disputes.csv").write_text("\n".join(rows), "latin-1")
    arguments = ("labels", "disputes.csv", "--spec", "other.toml")
    result = run(*arguments, "--report", "left.csv", status=2)
    assert "disputes.csv: 8 rows." in result.stdout
    assert "Labels: 3 stored, 0 changed, 0 already there, 0 not yet known." in result.stdout
    assert "1 row without a label by the spec: 1 'offen'." in result.stdout
    assert "1 row of no stored transaction: 'fremd' (row 7)." in result.stdout
    assert "3 of its rows cannot be used: row 2 (line 3): it has 5 fields" in result.stderr
    assert (
        "row 5 (line 6), column \"Grund\": 'Verlust': the spec does not have this word"
        in result.stderr
    )
    assert "a date is of the format '%d.%m.%Y %H:%M'" in result.stderr
    with Path("left.csv").open(newline="") as report:
        refusals = [(row["row"], row["column"], row["value"]) for row in csv.DictReader(report)]
    assert refusals == [
        ("2", "", ""),
        ("5", "Grund", "Verlust"),
        ("6", "Tag", "2026-02-03"),
        ("7", "", "fremd"),
    ]
    # In Berlin it is 02:30 twice that night: the first time in summer time.
    assert stored() == {
        PAID[0]: (True, datetime(2026, 2, 3, 8, 30, tzinfo=UTC)),
        PAID[2]: (True, datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),
        PAID[6]: (False, datetime(2025, 7, 3, 7, 30, tzinfo=UTC)),
    }
    corrected = [
        *rows[:2],
        rows[2][:-1],
        *rows[3:5],
        rows[5].replace("Verlust", "Betrug"),
        *rows[7:],
    ]
    Path("disputes.csv").write_text("\n".join(corrected), "latin-1")
    again = run(*arguments)
    assert "Labels: 2 stored, 0 changed, 3 already there, 0 not yet known." in again.stdout


def test_a_large_file_goes_in_parts_and_again_changes_nothing() -> None:
    others = [f"other-{n}" for n in range(2500)]
    # One at each end of each part, and another row of it far away.
    ids = [PAID[0], *others[:998], *PAID[1:3], *others[998:1996], *PAID[3:], *others[1996:]]
    lines = [f"{key},{'fraud' if n % 2 else 'legitimate'},2026-02-03" for n, key in enumerate(ids)]
    lines.append(f"{PAID[0]},fraud,2026-02-04")
    Path("labels.csv").write_text("transaction,label,date\n" + "\n".join(lines))
    tried = run("labels", "labels.csv", "--dry-run").stdout
    assert "Nothing is stored" in tried
    assert stored() == {}
    first = run("labels", "labels.csv").stdout
    assert "2,500 rows of no stored transaction: 'other-0' (row 2), " in first
    assert "and 2,495 more." in first
    line = "Labels: 8 stored, 0 changed, 0 already there, 0 not yet known, 1 left out, since"
    assert line in tried
    assert line in first
    found = stored()
    assert found.keys() == set(PAID)
    assert found[PAID[0]] == (True, datetime(2026, 2, 4, tzinfo=UTC))
    again = run("labels", "labels.csv").stdout
    assert "Labels: 0 stored, 0 changed, 8 already there, 0 not yet known, 1 left out" in again
    assert stored() == found


def test_the_names_of_columns_may_be_in_capitals() -> None:
    Path("labels.csv").write_text(f"\ufeffTransaction,LABEL,Date\n{PAID[0]},Fraud,2026-02-03\n")
    assert "Labels: 1 stored" in run("labels", "labels.csv").stdout


def test_parquet_is_no_file_of_labels() -> None:
    Path("labels.parquet").write_bytes(b"PAR1\x15\x84\xff")
    assert "labels are read from CSV" in run("labels", "labels.parquet", status=2).stderr


def test_a_packed_file_is_read_by_its_suffix_or_by_the_spec() -> None:
    rows = f"transaction,label,date\n{PAID[0]},fraud,2026-02-03\n".encode()
    Path("labels.csv.gz").write_bytes(gzip.compress(rows))
    assert "Labels: 1 stored" in run("labels", "labels.csv.gz").stdout
    with zipfile.ZipFile("labels.zip", "w") as archive:
        archive.writestr("labels.csv", rows)
    assert "1 already there" in run("labels", "labels.zip").stdout
    Path("other.toml").write_text(LAYOUT + 'quote = "\'"\ncompression = "bzip2"\n')
    other = f"id;Grund;Tag\n'{PAID[1]}';Betrug;03.02.2026 09:30\n"
    Path("other").write_bytes(bz2.compress(other.encode("latin-1")))
    assert "Labels: 1 stored" in run("labels", "other", "--spec", "other.toml").stdout
    Path("broken.csv.gz").write_bytes(rows)
    assert "broken.csv.gz: Not a gzipped file" in run("labels", "broken.csv.gz", status=2).stderr


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (None, "labels.csv: there is no such file"),
        ("transaction,label\n", "there is no label in it"),
        ("transaction,label\nother,1", "no row names a stored transaction of tenant default"),
        ("id,label\n1,1", "unknown column 'id': without a spec"),
        ("transaction,label\nt\xe9,1".encode("latin-1"), "it is not utf-8; name its encoding"),
        ("transaction;label\n1;1", 'spec: delimiter = ";" under [file] would divide the columns'),
        ("transaction\tlabel\n1\t1", 'spec: delimiter = "\\t" under [file] would divide'),
        ("sep=,\ntransaction,label\n1,1", "spec: skip_lines = 1 under [file] passes over"),
    ],
)
def test_a_file_that_makes_no_sense_ends_in_one_sentence(
    file: str | bytes | None, words: str
) -> None:
    if file is not None:
        Path("labels.csv").write_bytes(file.encode() if isinstance(file, str) else file)
    assert words in run("labels", "labels.csv", status=2).stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "other"', "", "name: Field required"),
        ("gestohlen", "betrug ", "the word 'betrug' stands for two labels"),
        ('label = "Grund"', "", "name the column of labels under [columns]"),
        ('unknown = ["offen"]', 'every = "fraud"', "name the column of labels under [columns]"),
        ("Europe/Berlin", "Europe/Berlun", "'Europe/Berlun' is not a time zone"),
        ("latin-1", "latin-one", "'latin-one' is not an encoding"),
        ('delimiter = ";"', 'delimiter = ";;"', "file.delimiter: String should have at most 1"),
        ('source = "dispute"', 'source = "rumour"', "source: Input should be 'analyst'"),
        ('date = "Tag"', 'date = "Tag"\naccount = "k"', "`quickstudy import` stores them"),
        ("[columns]", "[columns", "spec other.toml: "),
    ],
)
def test_a_wrong_layout_is_refused_in_one_sentence(old: str, new: str, words: str) -> None:
    assert old in LAYOUT
    Path("other.toml").write_text(LAYOUT.replace(old, new))
    Path("labels.csv").write_text("id;Grund;Tag\n")
    assert words in run("labels", "labels.csv", "--spec", "other.toml", status=2).stderr


DISPUTES = [
    {"charge": {"id": PAID[0]}, "reason": "fraudulent", "created": 1772000000},
    {"charge": {"id": PAID[1]}, "reason": "duplicate", "created": 1772000100},
    {"charge": {"id": "other"}, "reason": "fraudulent", "created": 1772000200, "n": [1]},
    {"charge": {"id": PAID[2]}, "reason": "fraudulent", "created": None},
]
OF_OBJECTS = """
name = "disputes"
[columns]
transaction = "charge.id"
label = "reason"
date = "created"
[label]
fraud = ["fraudulent"]
unknown = ["*"]
[time]
unit = "seconds"
"""


@pytest.mark.parametrize("form", ["lines", "gzip", "list", "document"])
def test_labels_may_be_objects_of_json(form: str) -> None:
    spec, path = OF_OBJECTS, Path("disputes.jsonl.gz" if form == "gzip" else "disputes.json")
    text = "".join(f"{json.dumps(row)}\n\n" for row in DISPUTES)
    if form == "list":
        text = json.dumps(DISPUTES, indent=1)
    elif form == "document":
        text, spec = json.dumps({"data": DISPUTES}), f'{spec}[file]\nrecords = "data"\n'
    path.write_bytes(gzip.compress(text.encode()) if form == "gzip" else text.encode())
    Path("other.toml").write_text(spec)
    arguments = ("labels", str(path), "--spec", "other.toml", "--report", "left.csv")
    result = run(*arguments, status=2)
    # Blank lines count as rows, as in CSV.
    has_lines = form in ("lines", "gzip")
    place = "row 7 (line 7)" if has_lines else "row 4"
    assert f'1 of its rows cannot be used: {place}, column "created": it is empty' in result.stderr
    assert "1 row without a label by the spec: 1 'duplicate'" in result.stdout
    assert stored() == {PAID[0]: (True, datetime.fromtimestamp(1772000000, UTC))}
    with Path("left.csv").open(newline="") as report:
        left = [(row["row"], row["line"]) for row in csv.DictReader(report)]
    assert left == ([("5", "5"), ("7", "7")] if has_lines else [("3", ""), ("4", "")])


def test_labels_by_line_need_no_spec_where_they_have_the_usual_names() -> None:
    rows = [{"transaction": PAID[n], "label": bool(n), "date": "2026-03-01"} for n in range(2)]
    Path("labels.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run("labels", "labels.jsonl")
    assert {key: is_fraud for key, (is_fraud, _) in stored().items()} == {
        PAID[0]: False,
        PAID[1]: True,
    }
    Path("labels.jsonl").write_text(json.dumps(rows[0]) + '\n{"transaction": ')
    assert "labels.jsonl: line 2: it is not JSON" in run("labels", "labels.jsonl", status=2).stderr
    Path("labels.jsonl").write_text(json.dumps({**rows[0], "amount": 3}))
    refused = run("labels", "labels.jsonl", status=2).stderr
    assert "unknown column 'amount': without a spec" in refused


def test_dates_of_labels_may_have_several_formats() -> None:
    spec = OF_OBJECTS.replace('unit = "seconds"', 'format = ["iso", "%d.%m.%Y"]')
    Path("other.toml").write_text(spec)
    dates = ["2026-02-03", "04.02.2026", "02/05/2026"]
    rows = [
        {"charge": {"id": PAID[n]}, "reason": "fraudulent", "created": date}
        for n, date in enumerate(dates)
    ]
    Path("disputes.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    result = run("labels", "disputes.jsonl", "--spec", "other.toml", status=2)
    assert "'02/05/2026': a date is of the format 'iso' or '%d.%m.%Y'" in result.stderr
    assert [at.day for _, at in stored().values()] == [3, 4]
