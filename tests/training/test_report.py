"""The report: one set of figures in three forms, honest, self-contained and hard to break."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.learner.checkpoint import Checkpoint
from app.training.report.contents import backtest_report, evaluation_report
from app.training.report.report import Origin, Report
from app.training.results import TITLES
from tests.training.made_up import RIVALS, chosen, evaluation_metrics, lead, quality
from tests.training.made_up import backtest_metrics as metrics

HOSTILE = '<script src="https://evil.example/x.js">alert(1)</script>|`*"\n# owned'
MANY = {f"rival_{n}": f"Rival number {n}" for n in range(42)}
VOID = {"meta", "br", "hr", "img", "input", "link"}
ORIGIN = Origin(
    command="quickstudy backtest --data 'a & b.csv' --spec s --report r",
    data="a & b.csv",
    data_sha256="ab" * 32,
    created_at="2026-01-02T03:04:05+00:00",
    version="0.1.0",
)


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


def test_an_unknown_figure_is_null_for_programs_and_a_word_for_people(tmp_path: Path) -> None:
    document, text, page = written(backtest_report(metrics(), ORIGIN), tmp_path)
    unknown = document["protocol_b"]["by_support"]["no labels"]["adapted"]["average_precision"]
    assert unknown is None
    assert document["protocol_b"]["differences_by_support"]["no labels"]["base"]["low"] is None
    assert "| Network without labels | n/a | 0.7000 |" in text
    assert '<th scope="row">Network without labels</th><td>n/a</td><td>0.7000</td>' in page
    assert "nan" not in Page(page).text


def test_every_form_says_where_the_figures_come_from(tmp_path: Path) -> None:
    document, text, page = written(backtest_report(metrics(), ORIGIN), tmp_path)
    assert document["command"] == ORIGIN.command
    for part in (ORIGIN.command, ORIGIN.data_sha256, ORIGIN.created_at, "quickstudy 0.1.0"):
        assert part in text
        assert part in Page(page).text


def test_the_page_is_well_formed_and_needs_nothing_beside_itself(tmp_path: Path) -> None:
    _, _, source = written(backtest_report(metrics(), ORIGIN), tmp_path)
    page = Page(source)
    assert page.tags.count("figure") == page.attributes.count(("role", "img")) == 3
    # A summary, the calibration and fourteen sections.
    assert page.tags.count("table") == 16
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    references = [value for name, value in page.attributes if name in ("src", "href")]
    assert [reference for reference in references if not (reference or "").startswith("#")] == []
    assert re.findall(r"https?:|//\w|@import|url\((?!#)", source) == []


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of 44 methods."""
    report = backtest_report(metrics(rivals=MANY), ORIGIN)
    return written(report, tmp_path_factory.mktemp("many"))[2]


def test_charts_are_read_in_light_and_in_dark(many: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", many, re.DOTALL))
    assert "currentColor" in drawings
    colours = set(re.findall(r"#[0-9a-f]{6}\b", drawings))
    assert len(colours) == 7
    style = many.partition("</style>")[0]
    grounds = re.findall(r"--ground: (#[0-9a-f]{6})", style)
    assert "prefers-color-scheme: dark" in style
    for ground in grounds:
        for colour in colours:
            low, high = sorted((luminance(colour), luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, ground)


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_methods_differ_in_black_and_white_however_many_there_are(many: str) -> None:
    swatches = re.findall(r"<li>(.*?)</li>", many, re.DOTALL)
    curve = many.partition("<figure>")[2].partition("</figure>")[0]
    names = [re.sub("<svg.*</svg>", "", swatch, flags=re.DOTALL).strip() for swatch in swatches]
    assert [name.removesuffix(" (reads no labels)") for name in names] == [
        *TITLES.values(),
        *MANY.values(),
    ]
    # Without the colours: the shape of the mark and the dashes of the line.
    shapes = [re.findall(r'stroke-dasharray: [^;]*|<path id=[^>]* d="[^"]*"', s) for s in swatches]
    looks = {re.sub(r' id="[^"]*"', "", " ".join(shape)) for shape in shapes}
    assert len(looks) == len(names) == 44
    # The same in the chart, which has no legend of its own.
    assert not any(title in Page(curve).text for title in MANY.values())
    for shape in shapes:
        assert shape[-1].partition(" d=")[2] in curve


def test_cells_have_their_headers_and_charts_their_titles(tmp_path: Path) -> None:
    _, _, source = written(backtest_report(metrics(rivals=RIVALS), ORIGIN), tmp_path)
    page = Page(source)
    scopes = [value for name, value in page.attributes if name == "scope"]
    assert scopes.count("col") + scopes.count("row") == page.tags.count("th")
    assert scopes.count("row") == page.tags.count("tr") - page.tags.count("table")
    titles = re.findall(r'role="img"[^>]*>\s*<title>(.*?)</title>', source)
    assert titles == [
        "average precision by number of labels",
        "recall at 1 % false positives by number of labels",
        "share of frauds by probability of fraud",
    ]
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_tables_come_before_the_prose_about_them(tmp_path: Path) -> None:
    _, text, source = written(backtest_report(metrics(adapted=0.55), ORIGIN), tmp_path)
    assert re.search(r"<h1>.*?</h1>\s*<div[^>]*>\s*<table>", source)
    for heading in ("Where adaptation loses", "Calibration", "Protocol A", "Protocol B, by"):
        part = source.partition(f"<h2>{heading}")[2].partition("<h2>")[0]
        assert 0 < part.index("<table>") < part.index("<p")
        part = text.partition(f"## {heading}")[2].partition("##")[0]
        assert part.split("\n\n")[1].startswith("| ")


def test_names_from_a_file_or_a_spec_are_text_and_never_markup(tmp_path: Path) -> None:
    report = backtest_report(metrics(kind=HOSTILE, spec=HOSTILE, adapted=0.1), ORIGIN)
    document, text, source = written(report, tmp_path)
    page = Page(source)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 4
    assert page.tags.count("b") == sum(len(section.best) for section in report.sections) > 8
    assert HOSTILE in document["protocol_b"]["by_kind"]
    outside_code = re.sub(r"(`+).*?\1", "", text)
    assert re.findall(r"(?<!\\)<\w", outside_code) == []
    assert "\n# owned" not in text
    rows = [line for line in text.splitlines() if "evil" in line and line.startswith("|")]
    # The table of losses, and the heading of the kinds.
    assert [len(re.split(r"(?<!\\)\|", row)) for row in rows] == [8, 4]


def test_names_of_a_method_and_of_a_file_are_text_too(tmp_path: Path) -> None:
    origin = replace(ORIGIN, data=HOSTILE, command=HOSTILE)
    report = backtest_report(metrics(rivals={"hostile": HOSTILE}), origin)
    _, text, source = written(report, tmp_path)
    page = Page(source)
    assert "script" not in page.tags
    assert "src" not in dict(page.attributes)
    assert page.text.count(HOSTILE) > 10
    assert "\n# owned" not in text
    assert "<script" not in (tmp_path / "labels.svg").read_text()


def test_it_says_where_adaptation_loses(tmp_path: Path) -> None:
    _, text, page = written(backtest_report(metrics(adapted=0.55), ORIGIN), tmp_path)
    row = (
        "Protocol B, by kind of fraud | takeover | average precision | 0.5500 | 0.6500 | "
        "-0.1000 (-0.1200 to -0.0800)"
    )
    assert f"| {row} |" in text
    assert "behind the base in 1 of the 25 comparisons" in text
    assert "behind beyond chance in: Protocol B, by kind of fraud, takeover -0.1000" in text
    first, *cells = row.split(" | ")
    shown = f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells)
    assert shown in page


def test_it_says_so_when_adaptation_loses_nowhere(tmp_path: Path) -> None:
    _, text, page = written(backtest_report(metrics(), ORIGIN), tmp_path)
    sentence = "Adaptation is behind the base in none of the figures of this report."
    assert sentence in text
    assert sentence in page


@pytest.mark.parametrize("frauds", [0, 1000])
def test_of_one_class_nothing_is_compared_and_it_says_so(
    tmp_path: Path, checkpoint: Path, frauds: int
) -> None:
    """Whatever the Brier scores of the two are."""
    better, worse = ({**quality(0.5), "brier": value, "frauds": frauds} for value in (0.01, 0.02))
    loaded = Checkpoint.load(checkpoint)
    for pair in ((better, worse), (worse, better)):
        report = evaluation_report(evaluation_metrics(*pair), ORIGIN, loaded)
        _, text, page = written(report, tmp_path)
        for form in (text, page, report.verdict[-1]):
            assert "Nothing could be compared" in form
            assert "none of the figures" not in form


def test_where_labels_change_no_score_nothing_is_compared_and_it_says_so(
    tmp_path: Path, checkpoint: Path
) -> None:
    """As where no account has a second payment, or none has a label before it."""
    alike, better = quality(0.5), quality(0.6)
    loaded = Checkpoint.load(checkpoint)
    report = evaluation_report(evaluation_metrics(alike, dict(alike)), ORIGIN, loaded)
    for form in (*written(report, tmp_path)[1:], report.verdict[-1]):
        assert "Nothing could be compared: labels have changed no score" in form
        assert "none of the figures" not in form
    report = evaluation_report(evaluation_metrics(better, alike), ORIGIN, loaded)
    assert "in none of the figures of this report" in report.verdict[-1]


def test_groups_of_one_class_are_named_beside_the_verdict_on_the_others() -> None:
    figures = metrics()
    for method in figures["protocol_b"]["by_support"]["no labels"].values():
        method["frauds"] = 0
    verdict = backtest_report(figures, ORIGIN).verdict[-2]
    assert "in none of the figures of this report" in verdict
    named = "Not compared, because they have only frauds or none: "
    assert f"{named}Protocol B, by support mix, no labels." in verdict


def test_ahead_beyond_chance_is_what_the_interval_says_and_not_the_difference_alone() -> None:
    verdict = backtest_report(metrics(), ORIGIN).verdict[-2]
    ahead = verdict.partition("ahead beyond chance in: ")[2]
    assert "Protocol B, accounts not in training, all +0.0500 (+0.0300 to +0.0700);" in ahead
    # A greater difference, of an interval from -0.1 to 0.3.
    assert "one fraud" not in ahead


def test_a_loss_in_recall_is_a_loss_too_but_not_one_beyond_the_digits_shown() -> None:
    figures = metrics()
    figures["protocol_b"]["all"]["adapted"] = quality(0.70001, recall=0.4)
    figures["protocol_b"]["all"]["base"] = quality(0.70002)
    verdict = backtest_report(figures, ORIGIN).verdict[-2]
    assert "behind the base in 1 of the 25" in verdict
    assert "0 of them in average precision" in verdict


@pytest.mark.parametrize("figure", ["brier", "calibration_error"])
def test_for_a_brier_score_and_a_calibration_error_less_is_better(
    checkpoint: Path, figure: str
) -> None:
    better, worse = ({**quality(0.5), figure: value} for value in (0.01, 0.02))
    loaded = Checkpoint.load(checkpoint)
    lost, won = (
        evaluation_report(evaluation_metrics(*pair), ORIGIN, loaded)
        for pair in ((worse, better), (better, worse))
    )
    assert "behind the base in 1 of the 11" in lost.verdict[-1]
    assert "in none of the figures" in won.verdict[-1]


def test_the_verdict_names_the_rivals_ahead_behind_and_neither(tmp_path: Path) -> None:
    figures = metrics(rivals=RIVALS)
    _, text, page = written(backtest_report(figures, ORIGIN), tmp_path)
    verdict = (
        "Protocol B, accounts not in training, average precision of the adapted network less a "
        "rival's: "
        "ahead of the adapted network beyond chance: gradient boosting (-0.0300); "
        "behind it beyond chance: neighbours (+0.0300); "
        "no difference beyond chance: logistic regression (+0.0000)."
    )
    assert verdict in text
    assert verdict in Page(page).text


def test_the_verdict_says_when_no_rival_is_ahead_and_when_none_was_compared() -> None:
    figures = metrics(rivals=RIVALS)
    figures["protocol_b"]["differences"]["trees"] = lead(-0.01)
    verdict = backtest_report(figures, ORIGIN).verdict[0]
    assert "no rival is ahead of the adapted network beyond chance" in verdict
    assert "no difference beyond chance: gradient boosting (-0.0100)" in verdict
    figures["protocol_b"]["differences"]["trees"] |= {"low": math.nan, "high": math.nan}
    verdict = backtest_report(figures, ORIGIN).verdict[0]
    assert "too few defrauded accounts to compare: gradient boosting (-0.0100)." in verdict
    for difference in figures["protocol_b"]["differences"].values():
        difference |= {"low": math.nan, "high": math.nan}
    verdict = backtest_report(figures, ORIGIN).verdict[0]
    assert "no rival could be compared, because fewer than 10 defrauded accounts" in verdict
    assert "ahead" not in verdict
    assert backtest_report(metrics(), ORIGIN).verdict[:2] == (
        "Protocol B, accounts not in training: no rivals were compared.",
        "Protocol A: no rivals were compared.",
    )


def test_every_method_has_its_row_in_every_table(tmp_path: Path) -> None:
    figures = metrics(rivals=RIVALS)
    by_fold = figures["protocol_a"]["folds"], figures["protocol_b"]["by_support"].values()
    for of_fold in (*by_fold[0], *by_fold[1]):
        of_fold.update({name: quality(0.33) for name in RIVALS})
    report = backtest_report(figures, ORIGIN)
    _, text, source = written(report, tmp_path)
    titles = [*TITLES.values(), *RIVALS.values()]
    assert len(report.sections) == 14
    for section in report.sections:
        first = [row[0] for row in section.rows]
        # Of the network it is the gate and the step sizes that are chosen.
        shown = titles[2:] if section.title.endswith("what was chosen") else titles
        assert [name for name in first if name in titles] == shown
        assert all(len(row) == len(section.header) for row in section.rows)
    row = (
        "| gradient boosting | 0.3000 | 0.2500 | 0.5000 | 0.0100 | 0.0020 | "
        "-0.0300 (-0.0500 to -0.0100) |"
    )
    assert text.count(row) == 3
    assert "| trained on (frauds) | 5,000 (40) | 5,000 (40) |" in text
    assert "| Network without labels | 1.500 | 0 |" in text
    assert "| gradient boosting | 1.500 | n/a |" in text
    assert source.count('<th scope="row">gradient boosting</th>') == 14


def test_the_best_of_a_column_is_bold_and_equals_are_bold_together(tmp_path: Path) -> None:
    figures = metrics(rivals=RIVALS)
    unseen = figures["protocol_b"]["unseen"]
    unseen["trees"] |= {"average_precision": 0.9, "brier": 0.005}
    unseen["linear"] |= {"average_precision": 0.900004, "brier": 0.02}
    sections = backtest_report(figures, ORIGIN).sections
    (section,) = (part for part in sections if part.title == "Protocol B, accounts not in training")
    assert {row for row, column in section.best if column == 1} == {2, 3}
    assert {row for row, column in section.best if column == 4} == {2}


def test_pairs_in_order_have_their_lead_over_the_base(tmp_path: Path) -> None:
    document, text, source = written(backtest_report(metrics(rivals=RIVALS), ORIGIN), tmp_path)
    row = "| Adapted network | 0.8000 | +0.0500 (+0.0400 to +0.0600) |"
    assert text.count(row) == 3
    assert "| Network without labels | 0.7500 |  |" in text
    assert text.count("4,321 pairs of 56 accounts.") == source.count("4,321 pairs of 56") == 3
    assert document["protocol_b"]["pairs_in_order"]["methods"]["adapted"]["share"] == 0.8


def test_settings_gate_and_step_sizes_are_reported(tmp_path: Path) -> None:
    figures = metrics(rivals=RIVALS)
    figures["protocol_b"]["folds"][0]["chosen"]["rivals"]["near"]["setting"] = {"prior": 1 / 3}
    report = backtest_report(figures, ORIGIN)
    assert report.notes == ()
    document, text, _ = written(report, tmp_path)
    for row in (
        "| held-out frauds | 40 |",
        "| Adapted network: gate | trust 3, heed 0.5, reach 0.25, habit 0.5, pardon 1 |",
        "| Adapted network: trees | 60 |",
        "| Adapted network: step sizes | out weight 0.1 0.02; out bias 0.3 1e-05 |",
        "| gradient boosting | depth 4, rate 0.1 |",
        "| neighbours | prior 0.333 |",
    ):
        assert row in text
    chosen = document["protocol_b"]["folds"][0]["chosen"]
    gate = {"trust": 3, "heed": 0.5, "reach": 0.25, "habit": 0.5, "pardon": 1}
    assert chosen["gate"] == gate
    assert chosen["rivals"]["trees"]["setting"] == {"depth": 4, "rate": 0.1}


@pytest.mark.parametrize(("frauds", "warned"), [(1, 1), (3, 1), (29, 1), (30, 0)])
def test_few_frauds_that_chose_the_settings_are_a_warning(
    tmp_path: Path, frauds: int, warned: int
) -> None:
    figures = metrics(rivals=RIVALS)
    figures["protocol_b"]["folds"][0]["chosen"] = chosen(RIVALS, frauds)
    report = backtest_report(figures, ORIGIN)
    assert len(report.notes) == warned
    _, text, source = written(report, tmp_path)
    plural = "fraud" if frauds == 1 else "frauds"
    words = f"2026-01-01: {frauds} {plural} of held-out accounts chose these settings"
    assert text.count(words) == Page(source).text.count(words) == warned


def test_a_rival_tuned_into_nonsense_is_named() -> None:
    figures = metrics(rivals=RIVALS)
    figures["protocol_a"]["folds"][1]["chosen"]["rivals"]["trees"]["doubts"] = [
        "it stopped after 1 tree",
        "it finds no held-out fraud at 1 % false positives",
    ]
    figures["protocol_b"]["unseen"]["linear"]["recall_at_1_percent"] = 0.0
    assert backtest_report(figures, ORIGIN).notes == (
        "Protocol A, 2026-01-08: gradient boosting was tuned into nonsense: it stopped after "
        "1 tree; it finds no held-out fraud at 1 % false positives. Being ahead of it says "
        "nothing.",
        "Protocol B, accounts not in training: logistic regression finds no fraud at 1 % false "
        "positives. Look at what was chosen for it before comparing anything with it.",
    )


def test_an_evaluation_reports_what_its_model_was_chosen_by(checkpoint: Path) -> None:
    model = Checkpoint.load(checkpoint)
    figures = evaluation_metrics(quality(0.6), quality(0.5))
    figures["chosen"]["held_out_frauds"] = 3
    report = evaluation_report(figures, ORIGIN, model)
    titles = [section.title for section in report.sections]
    assert "Pairs in order within accounts" in titles
    section = report.sections[titles.index("What was chosen in training")]
    assert section.rows[0] == ["held-out frauds", "3"]
    name = model.metadata.name
    assert any(note.startswith(f"In training, {name}: 3 frauds of") for note in report.notes)
    # A checkpoint that does not say how many is not guessed at.
    figures["chosen"]["held_out_frauds"] = math.nan
    report = evaluation_report(figures, ORIGIN, model)
    assert not any("frauds of held-out accounts" in note for note in report.notes)
    assert report.sections[titles.index("What was chosen in training")].rows[0][1] == "n/a"


def test_the_curve_has_a_band_for_the_network_and_a_line_for_every_method(tmp_path: Path) -> None:
    written(backtest_report(metrics(rivals=RIVALS), ORIGIN), tmp_path)
    for curve in (
        re.findall(r"<svg.*?</svg>", (tmp_path / "report.html").read_text(), re.DOTALL)[5],
        (tmp_path / "labels.svg").read_text(),
    ):
        assert curve.count("fill-opacity: 0.15") == 2
        colours = set(re.findall(r"stroke: (#[0-9a-f]{6})", curve))
        assert len(colours - {"#767676"}) == 5
    # A file of its own has the legend.
    assert all(title in curve for title in (*TITLES.values(), *RIVALS.values()))
    assert "currentColor" not in curve


def test_the_reliability_diagram_states_the_scores_and_shows_bins_without_fraud(
    tmp_path: Path,
) -> None:
    _, _, source = written(backtest_report(metrics(), ORIGIN), tmp_path)
    row = '<th scope="row">Adapted network</th><td>0.0123</td><td>0.0045</td>'
    assert row in source.partition("<h2>Calibration</h2>")[2]
    diagram = re.findall(r"<svg.*?</svg>", source, re.DOTALL)[-1]
    # The bin without fraud, of either method.
    assert diagram.count("fill-opacity: 0;") == 2


def test_a_model_judged_by_its_own_training_data_is_marked(
    tmp_path: Path, checkpoint: Path
) -> None:
    model = Checkpoint.load(checkpoint)
    figures = evaluation_metrics(quality(0.7), quality(0.6))
    same = ORIGIN.__class__(**{**vars(ORIGIN), "data_sha256": model.metadata.data.sha256})
    for origin, is_stated in ((ORIGIN, False), (same, True)):
        document, text, page = written(evaluation_report(figures, origin, model), tmp_path)
        assert ("trained on this very file" in text) is is_stated
        assert ("trained on this very file" in page) is is_stated
    assert document["model"] == {"name": "tiny", "digest": model.digest}
    assert "beyond chance" not in text


def test_a_title_that_is_markup_or_mathematics_is_drawn_as_it_stands(tmp_path: Path) -> None:
    title = "fine-tuned <1> at $x_$1 cost"
    _, text, source = written(backtest_report(metrics(rivals={"tuned": title}), ORIGIN), tmp_path)
    assert Page(source).text.count(title) > 9
    assert "fine-tuned \\<1\\> at $x\\_$1 cost" in text
