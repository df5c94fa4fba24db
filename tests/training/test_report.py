"""The report: one set of figures in three forms, honest, self-contained and hard to break."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.checkpoint import Checkpoint
from app.training.report import Origin, Report, backtest_report, evaluation_report

HOSTILE = '<script src="https://evil.example/x.js">alert(1)</script>|`*"\n# owned'
VOID = {"meta", "br", "hr", "img", "input", "link"}
ORIGIN = Origin(
    command="quickstudy backtest --data 'a & b.csv' --spec s --report r",
    data="a & b.csv",
    data_sha256="ab" * 32,
    created_at="2026-01-02T03:04:05+00:00",
    version="0.1.0",
)


def quality(average_precision: float, recall: float = 0.5) -> dict[str, float]:
    return {
        "transactions": 1000,
        "frauds": 10,
        "average_precision": average_precision,
        "card_precision_100": 0.25,
        "recall_at_1_percent": recall,
    }


def group(adapted: float, base: float, recall: float = 0.5) -> dict[str, Any]:
    return {"adapted": quality(adapted, recall), "base": quality(base)}


def metrics(adapted: float = 0.7, kind: str = "takeover", spec: str = "tests") -> dict[str, Any]:
    """As `Backtest.run` gives them, with one fraud kind of which one fold has no fraud."""
    counts = {"train_transactions": 5000, "train_frauds": 40}
    folds = [
        {"test_start": day, **counts, **group(0.7, 0.6)} for day in ("2026-01-01", "2026-01-08")
    ]
    return {
        "spec": spec,
        "protocol_a": {"folds": folds, "mean": quality(0.7)},
        "protocol_b": {
            "folds": [{"by_kind": {kind: group(math.nan, math.nan)}}],
            "all": group(0.8, 0.7),
            "unseen": group(0.75, 0.7),
            "by_kind": {kind: group(adapted, 0.65)},
            "by_support": {"no labels": group(math.nan, math.nan), "one fraud": group(0.8, 0.7)},
            "by_labels": {k: group(0.7 + int(k) / 100, 0.7) for k in ("0", "1", "3")},
        },
    }


class Page(HTMLParser):
    """Fails on a tag that is not closed in its place; collects tags, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(report: Report, folder: Path) -> tuple[dict[str, Any], str, str]:
    report.write(folder)
    texts = [(folder / name).read_text() for name in ("metrics.json", "report.md", "report.html")]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(texts[0], parse_constant=refuse), texts[1], texts[2]


def test_programs_find_the_figures_under_their_names(tmp_path: Path) -> None:
    document, _, _ = written(backtest_report(metrics(), ORIGIN), tmp_path)
    assert document["protocol_a"]["mean"]["average_precision"] == 0.7
    assert document["protocol_a"]["mean"]["card_precision_100"] == 0.25
    assert document["protocol_b"]["unseen"]["adapted"]["average_precision"] == 0.75
    assert document["protocol_b"]["unseen"]["base"]["average_precision"] == 0.7
    assert document["data_sha256"] == ORIGIN.data_sha256


def test_a_figure_that_is_not_known_is_null_for_programs_and_said_to_people(tmp_path: Path) -> None:
    document, text, page = written(backtest_report(metrics(), ORIGIN), tmp_path)
    unknown = document["protocol_b"]["by_support"]["no labels"]["adapted"]["average_precision"]
    assert unknown is None
    assert "| no labels | 1,000 (10) | n/a | n/a | n/a |" in text
    assert "<td>no labels</td><td>1,000 (10)</td><td>n/a</td>" in page
    assert "nan" not in Page(page).text


def test_every_form_says_where_the_figures_come_from(tmp_path: Path) -> None:
    document, text, page = written(backtest_report(metrics(), ORIGIN), tmp_path)
    assert document["command"] == ORIGIN.command
    for said in (ORIGIN.command, ORIGIN.data_sha256, ORIGIN.created_at, "quickstudy 0.1.0"):
        assert said in text
        assert said in Page(page).text


def test_the_page_is_well_formed_and_needs_nothing_beside_itself(tmp_path: Path) -> None:
    _, _, source = written(backtest_report(metrics(), ORIGIN), tmp_path)
    page = Page(source)
    assert page.tags.count("svg") == 2
    assert page.tags.count("table") == 5
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    references = [value for name, value in page.attributes if name in ("src", "href")]
    assert [one for one in references if not (one or "").startswith("#")] == []
    assert re.findall(r"https?:|//\w|@import|url\((?!#)", source) == []


def test_the_drawing_takes_its_colours_from_the_page_in_light_and_dark(tmp_path: Path) -> None:
    _, _, source = written(backtest_report(metrics(), ORIGIN), tmp_path)
    drawings = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawings)) == set()
    for used in ("currentColor", "var(--series-1)", "var(--series-2)"):
        assert used in drawings
    assert "prefers-color-scheme: dark" in source


def test_names_from_a_file_or_a_spec_are_text_and_never_markup(tmp_path: Path) -> None:
    report = backtest_report(metrics(kind=HOSTILE, spec=HOSTILE, adapted=0.1), ORIGIN)
    document, text, source = written(report, tmp_path)
    page = Page(source)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 4
    assert HOSTILE in document["protocol_b"]["by_kind"]
    outside_code = re.sub(r"(`+).*?\1", "", text)
    assert re.findall(r"(?<!\\)<\w", outside_code) == []
    assert "\n# owned" not in text
    rows = [line for line in text.splitlines() if "evil" in line and line.startswith("|")]
    assert [len(re.split(r"(?<!\\)\|", row)) for row in rows] == [8, 11]


def test_it_says_where_adaptation_loses(tmp_path: Path) -> None:
    _, text, page = written(backtest_report(metrics(adapted=0.55), ORIGIN), tmp_path)
    row = "Protocol B, by kind of fraud | takeover | average precision | 0.5500 | 0.6500 | -0.1000"
    assert f"| {row} |" in text
    assert "behind the base in 1 of the 32 comparisons" in text
    assert "".join(f"<td>{cell}</td>" for cell in row.split(" | ")) in page


def test_it_says_so_when_adaptation_loses_nowhere(tmp_path: Path) -> None:
    _, text, page = written(backtest_report(metrics(), ORIGIN), tmp_path)
    said = "Adaptation is behind the base in none of the figures of this report."
    assert said in text
    assert said in page


def test_a_loss_in_recall_is_a_loss_too_but_not_one_beyond_the_digits_shown() -> None:
    figures = metrics()
    figures["protocol_b"]["all"] = group(0.70001, 0.70002, recall=0.4)
    verdict = backtest_report(figures, ORIGIN).verdict
    assert "behind the base in 1 of the 32" in verdict
    assert "0 of them in average precision" in verdict


def test_for_a_brier_score_less_is_better(checkpoint: Path) -> None:
    figures = {
        name: {"transactions": 10, "frauds": 1, "average_precision": 0.5, "brier": brier}
        for name, brier in (("adapted", 0.02), ("base", 0.01))
    }
    for quality_of in figures.values():
        quality_of["recall_at_1_percent"] = 0.5
    whole = {"spec": "s", "all": figures, "by_kind": {}, "by_labels": {"0": figures}}
    report = evaluation_report(whole, ORIGIN, Checkpoint.load(checkpoint))
    assert "behind the base in 2 of the 6" in report.verdict


def test_a_model_judged_by_its_own_training_data_is_said_to_be(
    tmp_path: Path, checkpoint: Path
) -> None:
    model = Checkpoint.load(checkpoint)
    figures = {"spec": "s", "all": group(0.7, 0.6), "by_kind": {}, "by_labels": {}}
    figures["by_labels"] = {"0": group(0.6, 0.6), "16": group(0.7, 0.6)}
    same = ORIGIN.__class__(**{**vars(ORIGIN), "data_sha256": model.metadata.data.sha256})
    for origin, is_said in ((ORIGIN, False), (same, True)):
        document, text, page = written(evaluation_report(figures, origin, model), tmp_path)
        assert ("trained on this very file" in text) is is_said
        assert ("trained on this very file" in page) is is_said
    assert document["model"] == {"name": "tiny", "digest": model.digest}


@pytest.mark.parametrize("method", ["xgboost", "fine-tuned <1>"])
def test_a_further_method_gets_a_column_and_a_curve(tmp_path: Path, method: str) -> None:
    figures = metrics()
    for one in figures["protocol_b"]["by_labels"].values():
        one[method] = quality(0.33)
    _, text, source = written(backtest_report(figures, ORIGIN), tmp_path)
    assert "0.3300" in text
    assert Page(source).text.count(f"AP {method}") == 1
    assert "var(--series-3)" in source
