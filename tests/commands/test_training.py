"""The commands that simulate, train, evaluate and back-test, on tiny files and with few steps."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.learner.checkpoint import Checkpoint
from app.learner.spec import DatasetSpec
from app.training.rates import bundled_rates
from tests.servers import START_SECONDS
from tests.training.conftest import short_checks

__all__ = ["short_checks"]
pytestmark = pytest.mark.usefixtures("fitted_once")
FEW = ("--global-steps", "2", "--meta-steps", "1")
BUILT_IN = Path("app/learner/specs/simulated.toml")

runner = CliRunner()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def sentence(*arguments: str | Path) -> str:
    """What a command says that ends with a user's error."""
    error = run(*arguments, status=2).stderr
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    path = folder / "files" / "simulated.parquet"
    run("simulate", "--out", path, "--accounts", "100", "--days", "60", "--seed", "3")
    return path


@pytest.fixture(scope="module")
def one_fold(folder: Path) -> Path:
    """The built-in spec with one short test period, under a name that is not its own."""
    path = folder / "one_fold.toml"
    text = BUILT_IN.read_text().replace('name = "simulated"', 'name = "<b>one|fold</b>"', 1)
    path.write_text(f'{text}\ntest_starts = ["2024-02-10"]\ntest_days = 6\n')
    return path


@pytest.fixture(scope="module")
def model(folder: Path, data: Path) -> Path:
    out = folder / "models" / "tiny"
    output = run("train", "--data", data, "--spec", "simulated", "--out", out, *FEW).output
    assert "held-out average precision, adapted" in output
    assert "meta: step 1 of 1" in output
    return out


@pytest.fixture(scope="module")
def evaluated(folder: Path, data: Path, model: Path) -> Path:
    report = folder / "evaluation"
    output = run("evaluate", "--data", data, "--model", model, "--report", report).output
    assert "trained on this very file" in output
    return report


@pytest.mark.parametrize(("stated", "expected"), [(None, 1), ("2", 2)])
def test_one_thread_computes_unless_more_are_stated(
    folder: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    stated: str | None,
    expected: int,
) -> None:
    data = folder / "few.parquet"
    run("simulate", "--out", data, "--accounts", "8", "--days", "30")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if stated:
        monkeypatch.setenv("OMP_NUM_THREADS", stated)
    try:
        options = ("--data", data, "--model", model, "--report", folder / "by-threads")
        run("evaluate", *options, "--device", "cpu")
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_a_simulated_file_is_the_same_in_both_formats_and_by_its_seed(
    folder: Path, data: Path
) -> None:
    out = folder / "same.csv"
    options = ("--accounts", "100", "--days", "60", "--seed", "3")
    output = run("simulate", "--out", out, *options).output
    expected = pl.read_parquet(data)
    assert f"{len(expected):,} transactions" in output
    found = pl.read_csv(out, try_parse_dates=True)
    assert found["transaction_id"].equals(expected["transaction_id"])
    assert found["amount"].equals(expected["amount"])


def test_training_leaves_a_checkpoint_with_its_card_and_nothing_unfinished(
    data: Path, model: Path
) -> None:
    metadata = Checkpoint.load(model).metadata
    assert metadata.data.transactions == len(pl.read_parquet(data))
    assert metadata.options["global_steps"] == 2
    assert (model / "README.md").read_text().startswith("# tiny: a model card")
    assert {path.name for path in model.iterdir()} == {
        "README.md",
        "checkpoint.json",
        "model.safetensors",
    }


def test_a_model_is_trained_on_parts_of_a_file(folder: Path, data: Path, model: Path) -> None:
    parts, out = folder / "parts", folder / "models" / "of-parts"
    options = ("--data", data, "--spec", "simulated", "--out", parts, "--parts", "3")
    output = run("partition", *options).output
    expected = Checkpoint.load(model).metadata.data
    assert "rates are stated with --rates" in output
    assert f"{expected.transactions:,} transactions of {expected.accounts:,} accounts" in output
    assert "are in 3 parts" in output
    assert "name a new folder" in sentence("partition", *options)
    run("train", "--data", parts, "--spec", "simulated", "--out", out, *FEW)
    metadata = Checkpoint.load(out).metadata
    assert metadata.data == expected
    # Rates are those of the parts.
    assert metadata.rates == Checkpoint.load(model).metadata.rates


def test_evaluating_reports_the_same_by_file_format_and_column_names(
    folder: Path, data: Path, model: Path, evaluated: Path
) -> None:
    second = folder / "renamed"
    renamed = folder / "renamed.csv"
    frame = pl.read_parquet(data).rename({"account_id": "holder", "is_fraud": "bad"})
    frame.write_csv(renamed)
    spec = folder / "renamed.toml"
    text = BUILT_IN.read_text()
    spec.write_text(text.replace('"account_id"', '"holder"').replace('"is_fraud"', '"bad"'))
    options = ("--data", renamed, "--model", model, "--report", second, "--spec", spec)
    assert "trained on this very file" not in run("evaluate", *options).output

    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (evaluated, second)]
    assert metrics[0]["all"] == metrics[1]["all"]
    assert set(metrics[0]["by_labels"]) == {"0", "1", "3", "5", "10", "16"}
    assert metrics[0]["all"]["adapted"]["transactions"] == frame["bad"].count()
    assert metrics[0]["model"]["digest"] == Checkpoint.load(model).digest
    assert metrics[1]["command"].startswith("quickstudy evaluate --data ")
    assert "renamed.csv" in metrics[1]["command"]


def test_training_and_evaluation_compare_amounts_by_the_rates_that_the_checkpoint_keeps(
    folder: Path, data: Path, model: Path
) -> None:
    assert Checkpoint.load(model).metadata.rates == bundled_rates()
    mixed, out, report = folder / "mixed.parquet", folder / "models" / "mixed", folder / "mixed"
    currency = pl.when(pl.int_range(pl.len()) < 10).then(pl.lit("KWD")).otherwise(pl.lit("JPY"))
    frame = pl.read_parquet(data)
    frame.with_columns(currency=currency).write_parquet(mixed)
    few = folder / "few-mixed.parquet"
    chosen = pl.col("account_id").is_in(frame["account_id"].unique().sort().head(20).implode())
    frame.filter(chosen).with_columns(currency=currency).write_parquet(few)
    rates = folder / "rates.toml"
    rates.write_text('reference = "USD"\nas_of = 2026-06-30\n[per_unit]\nJPY = 0.0064\n')
    options = ("--data", mixed, "--spec", "simulated", "--out", out)
    output = run("train", *options, *FEW, "--rates", rates).output
    assert "in currencies without a rate are not compared: 10 in KWD" in output
    assert "in USD, by 2 rates of 2026-06-30" in (out / "README.md").read_text()
    assert "--rates models/mixed" in (out / "README.md").read_text()
    # The file is gone, and the model has them.
    rates.unlink()
    output = run("evaluate", "--data", few, "--model", out, "--report", report).output
    assert "10 in KWD" in output
    whole = json.loads((report / "metrics.json").read_text())["all"]["adapted"]
    assert whole["average_precision"] == whole["average_precision"]
    plain = folder / "plain.toml"
    text = BUILT_IN.read_text()
    plain.write_text(re.sub(r'^currency = "currency"\n', "", text, flags=re.MULTILINE))
    options = ("--data", mixed, "--report", report, "--spec", plain)
    assert "[columns] lacks currency" in sentence("evaluate", *options, "--model", out)
    again = folder / "models" / "again"
    run("train", "--data", mixed, "--spec", "simulated", "--out", again, *FEW, "--rates", out)
    assert Checkpoint.load(again).features.digest == Checkpoint.load(out).features.digest
    options = ("--data", mixed, "--spec", plain, "--out", again, "--rates", out)
    assert "names no column of currencies" in sentence("train", *options)


def test_without_labels_the_adapted_copy_is_the_base(evaluated: Path) -> None:
    by_labels = json.loads((evaluated / "metrics.json").read_text())["by_labels"]
    assert by_labels["0"]["adapted"] == by_labels["0"]["base"]
    assert by_labels["16"]["adapted"] != by_labels["16"]["base"]


def test_wrong_labels_move_the_copies_and_not_the_base(evaluated: Path) -> None:
    by_share = json.loads((evaluated / "metrics.json").read_text())["by_wrong_labels"]
    assert list(by_share) == ["0%", "5%", "10%", "20%", "50%", "all frauds"]
    right = by_share.pop("0%")
    for wrong in by_share.values():
        assert right["base"] == wrong["base"]
        assert right["adapted"] != wrong["adapted"]


def test_thresholds_follow_what_is_stated_of_them(folder: Path, data: Path) -> None:
    few = ("--data", data, "--spec", "simulated", "--global-steps", "2", "--meta-steps", "1")
    out = folder / "costs"
    run("train", *few, "--out", out, *COSTS)
    decisions = Checkpoint.load(out).metadata.decisions
    assert decisions.review == pytest.approx(5 / 100)
    assert decisions.decline == pytest.approx(1 - 5 / 20)
    card = (out / "README.md").read_text()
    assert "5 for a review, 100 for a missed fraud" in card
    assert "--review-cost 5.0 --fraud-cost 100.0 --wrong-decline-cost 20.0" in card
    budget = ("--reviewed-share", "0.05", "--declined-share", "0.01")
    run("train", *few, "--out", out, *budget)
    metrics = Checkpoint.load(out).metadata.metrics
    assert 0.03 <= metrics["reviewed_share"] <= 0.05
    assert metrics["declined_share"] <= 0.01
    assert "at most 5.00% of transactions are held up" in (out / "README.md").read_text()
    few = (*few, "--out", out)
    assert "not both" in sentence("train", *few, *COSTS, *budget)
    assert "each above 0" in sentence("train", *few, *COSTS[:4])
    assert "between 0 and 1" in sentence("train", *few, "--reviewed-share", "7")


def test_a_model_is_trained_without_trees_where_that_is_stated(folder: Path, data: Path) -> None:
    few = ("--data", data, "--spec", "simulated", "--global-steps", "2", "--meta-steps", "1")
    out = folder / "network-alone"
    run("train", *few, "--out", out, "--no-trees")
    metadata = Checkpoint.load(out).metadata
    assert metadata.options["trees"] is False
    assert metadata.metrics["trees"] == 0
    assert " --no-trees`" in (out / "README.md").read_text()


COSTS = ("--review-cost", "5", "--fraud-cost", "100", "--wrong-decline-cost", "20")


def test_a_training_goes_on_from_a_model_at_its_rates(folder: Path, data: Path) -> None:
    begun, out = folder / "models" / "begun", folder / "models" / "going-on"
    rates = folder / "half.toml"
    rates.write_text('reference = "EUR"\n[per_unit]\nUSD = 0.5\n')
    options = ("--data", data, "--spec", "simulated", "--no-trees")
    run("train", *options, *FEW, "--out", begun, "--rates", rates)
    going_on = ("--global-steps", "2", "--start", begun)
    output = run("train", *options, *going_on, "--out", out).output
    assert "global: step 2 of 2" in output
    assert "meta: step" not in output
    first, then = Checkpoint.load(begun), Checkpoint.load(out)
    assert then.metadata.options["start"] == first.digest[:12]
    assert then.metadata.options["meta_steps"] == 0
    assert then.metadata.step_sizes == first.metadata.step_sizes
    for name in ("trust", "heed", "reach", "habit", "pardon"):
        assert then.weights[f"gate.{name}"] == first.weights[f"gate.{name}"]
    assert then.metadata.rates == first.metadata.rates
    edges = "network.encoder.edges_ZT"
    assert (then.weights[edges] == first.weights[edges]).all()
    assert "| start |" in (out / "README.md").read_text()
    run("train", *options, *going_on, "--out", out, "--heed", "8")
    careful = Checkpoint.load(out)
    assert careful.weights["gate.heed"] == 8
    assert careful.weights["gate.trust"] == first.weights["gate.trust"]
    assert "| heed | 8.0 |" in (out / "README.md").read_text()


def test_a_start_that_does_not_fit_is_one_sentence(
    folder: Path, data: Path, model: Path, one_fold: Path
) -> None:
    options = ("--data", data, "--spec", "simulated", "--out", folder / "models" / "none")
    assert "no second stage" in sentence("train", *options, *FEW, "--start", model)
    other = ("--start", model, "--algorithm", "maml")
    assert "learns accounts by anil" in sentence("train", *options, *other)
    rates = folder / "other.toml"
    rates.write_text('reference = "EUR"\n[per_unit]\nUSD = 0.25\n')
    other = ("--start", model, "--rates", rates)
    assert "has other features or rates" in sentence("train", *options, *other)
    assert not (folder / "models" / "none").exists()


def test_an_evaluation_says_how_reliable_the_probabilities_are(evaluated: Path) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    whole, reliability = metrics["all"]["adapted"], metrics["reliability"]["adapted"]
    for figure in ("transactions", "frauds", "brier", "calibration_error"):
        assert reliability[figure] == whole[figure]
    assert sum(bin["frauds"] for bin in reliability["bins"]) == whole["frauds"]
    assert (evaluated / "report.html").read_text().count("<figure") == 3


def test_a_back_test_prints_both_protocols_and_reports_them(
    folder: Path, data: Path, one_fold: Path
) -> None:
    report = folder / "backtest"
    options = ("--data", data, "--spec", one_fold, "--report", report, *FEW)
    output = run("backtest", *options, "--rivals", "logistic_regression,robust_z").output
    tables = ("Protocol A", "Protocol B", "by kind", "by support mix", "by number of labels")
    assert all(table in output for table in tables)
    for rival in ("Logistic regression", "Robust z-scores per account"):
        assert f"A 2024-02-10: {rival}" in output
        assert f"B 2024-02-10: {rival}" in output
    assert "2024-02-10" in output
    assert "A 2024-02-10 global: step 2 of 2" in output

    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["spec"] == DatasetSpec.load(one_fold).name
    assert {"average_precision", "card_precision_100"} <= set(metrics["protocol_a"]["mean"])
    unseen = metrics["protocol_b"]["unseen"]
    rivals = {"logistic_regression", "robust_z"}
    assert set(unseen) == {"adapted", "base"} | rivals
    assert set(metrics["protocol_b"]["differences"]) == {"base"} | rivals
    assert metrics["command"].endswith("--rivals logistic_regression,robust_z")
    fold = metrics["protocol_a"]["folds"][0]
    assert f"{fold['train_transactions']:,} ({fold['train_frauds']})" in output
    page = (report / "report.html").read_text()
    assert "&lt;b&gt;one|fold&lt;/b&gt;" in page
    assert "<b>one|fold</b>" not in page
    assert (report / "report.md").read_text().startswith("# Back-test on \\<b\\>one\\|fold")


def test_a_back_test_without_rivals_compares_the_network_with_its_base(
    folder: Path, data: Path, one_fold: Path
) -> None:
    report = folder / "alone"
    options = ("--data", data, "--spec", one_fold, "--report", report, *FEW)
    output = run("backtest", *options, "--rivals", "none").output
    assert "no rivals were compared" in output
    metrics = json.loads((report / "metrics.json").read_text())
    assert set(metrics["methods"]) == {"adapted", "base"}


def test_an_unknown_rival_is_one_sentence_before_the_file_is_read(folder: Path) -> None:
    arguments = ("--data", folder / "absent.csv", "--spec", "simulated", "--report", folder / "no")
    output = sentence("backtest", *arguments, "--rivals", "xgboost,crystal_ball")
    assert "unknown rival 'crystal_ball'; choose from " in output
    assert "logistic_regression" in output


def test_ctrl_c_leaves_a_checkpoint_that_loads_and_resume_finishes_it(
    folder: Path, data: Path
) -> None:
    out = folder / "models" / "stopped"
    command = ["train", "--data", str(data), "--spec", "simulated", "--out", str(out)]
    command += ["--global-steps", "30", "--meta-steps", "1", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.main", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    assert any("global: step 1 of 30" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "--resume" in output
    assert Checkpoint.load(out).metadata.name == "stopped"

    resumed = run(*command, "--resume").output
    assert "global: step 1 of 30" not in resumed
    assert "global: step 30 of 30" in resumed
    assert "interrupted" not in resumed
    assert Checkpoint.load(out).metadata.metrics["held_out_loss"] > 0
    assert "no interrupted training" in sentence(*command, "--resume")


def test_resuming_what_never_began_is_one_sentence_and_leaves_nothing(
    folder: Path, data: Path
) -> None:
    out = folder / "models" / "absent"
    arguments = ("train", "--data", data, "--spec", "simulated", "--out", out, *FEW, "--resume")
    assert "no interrupted training to resume" in sentence(*arguments)
    assert not out.exists()


@pytest.mark.parametrize("command", ["train", "backtest"])
def test_a_file_or_spec_that_cannot_be_used_is_one_sentence(
    command: str, folder: Path, data: Path
) -> None:
    to = "--out" if command == "train" else "--report"
    arguments = (command, to, folder / "unused", "--spec")
    assert "no such file" in sentence(*arguments, "simulated", "--data", folder / "absent.csv")
    assert "built-in specs are" in sentence(*arguments, "unknown", "--data", data)
    assert "no column" in sentence(*arguments, "handbook", "--data", data)
    bad = folder / "bad.csv"
    pl.read_parquet(data).with_columns(amount=-1.0).write_csv(bad)
    output = sentence(*arguments, "simulated", "--data", bad)
    assert 'bad.csv: row 1 (line 2), column "amount"' in output


def test_too_little_to_learn_from_is_one_sentence(folder: Path, data: Path) -> None:
    few = folder / "few.parquet"
    pl.read_parquet(data).filter(~pl.col("is_fraud")).write_parquet(few)
    arguments = ("--data", few, "--spec", "simulated", "--out", folder / "unused")
    assert "all of one class" in sentence("train", *arguments)
    arguments = (*arguments[:-2], "--report", folder / "unused", "--rivals", "none")
    refused = sentence("backtest", *arguments)
    assert "the fold tested from 2" in refused
    assert "all of one class" in refused


def test_an_evaluation_without_a_fraud_says_that_nothing_could_be_compared(
    folder: Path, data: Path, model: Path
) -> None:
    few, report = folder / "legitimate.parquet", folder / "legitimate"
    pl.read_parquet(data).filter(~pl.col("is_fraud")).head(300).write_parquet(few)
    output = run("evaluate", "--data", few, "--model", model, "--report", report).output
    assert "Nothing could be compared" in output
    assert "none of the figures" not in output
    assert "Nothing could be compared" in (report / "report.md").read_text()


def test_a_model_that_does_not_fit_is_one_sentence(folder: Path, data: Path, model: Path) -> None:
    arguments = ("evaluate", "--data", data, "--report", folder / "unused", "--model")
    assert "nowhere" in sentence(*arguments, folder / "nowhere")
    refused = sentence(*arguments, model, "--spec", "handbook")
    assert "other features" in refused
    assert "[numeric] lacks" in refused


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_one_sentence(folder: Path, data: Path) -> None:
    arguments = ("train", "--data", data, "--spec", "simulated", "--out", folder / "unused")
    assert "no GPU" in sentence(*arguments, "--device", "cuda")


def test_an_unknown_device_is_refused_by_name(folder: Path, data: Path) -> None:
    arguments = ("train", "--data", data, "--spec", "simulated", "--out", folder / "unused")
    assert "'auto', 'cpu', 'cuda'" in run(*arguments, "--device", "tpu", status=2).output


def test_a_simulation_is_written_as_csv_or_parquet_only(folder: Path) -> None:
    assert "neither .csv nor .parquet" in sentence("simulate", "--out", folder / "data.xlsx")


def test_a_report_that_cannot_be_written_is_refused_before_the_training(
    folder: Path, data: Path
) -> None:
    taken = folder / "taken"
    taken.write_text("")
    arguments = ("--data", data, "--spec", "simulated", "--report", taken)
    assert "taken" in sentence("backtest", *arguments)


@pytest.mark.parametrize(
    ("library", "name"), [("sklearn", "scikit-learn"), ("babel", "Babel"), ("polars", "Polars")]
)
def test_training_names_the_extra_it_needs_and_the_command_line_does_without(
    library: str, name: str
) -> None:
    program = f"""
import sys
sys.modules["{library}"] = None
from app.cli.main import app
assert not [name for name in sys.modules if name.startswith("app.training")]
app(["train", "--data", "F", "--spec", "simulated", "--out", "M"])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert result.stderr == (
        f"Error: this command needs {name}, which serving does without: pip install '.[train]'\n"
    )
