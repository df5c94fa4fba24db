"""The model card: complete, plain, and true to the metadata."""

import re
from pathlib import Path

import pytest

from app.learner.checkpoint import Checkpoint, Metadata
from app.learner.decisions import Calibration
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.settings import SHIPPED_MODEL
from app.training.report.card import model_card

SECTIONS = [
    "Data",
    "Intended use",
    "Limits",
    "How it was trained",
    "Figures",
    "Calibration",
    "Thresholds",
    "How to reproduce it",
]


@pytest.fixture
def metadata(checkpoint: Path) -> Metadata:
    return Checkpoint.load(checkpoint).metadata.model_copy(
        update={
            "options": {"global_steps": 20, "meta_steps": 10, "episodes": 128},
            "metrics": {"held_out_average_precision_adapted": 0.61234, "reviewed_share": 0.0123},
            "versions": {"quickstudy": "0.1.0", "torch": "2.13.0"},
        }
    )


def test_a_card_has_every_section_and_the_figures_of_the_metadata(metadata: Metadata) -> None:
    card = model_card(metadata)
    assert card.startswith("# tiny: a model card\n")
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    for part in (metadata.data.sha256, "0.61234", "| global\\_steps | 20 |", "0.120000", "1.23%"):
        assert part in card
    assert "`quickstudy train`" in card


def test_a_card_names_the_currency_of_amounts_and_how_to_keep_its_rates(metadata: Metadata) -> None:
    assert "| amounts |" not in model_card(metadata)
    rates = Rates(reference="USD", per_unit={"JPY": 0.0064})
    card = model_card(metadata.model_copy(update={"rates": rates, "name": "shop"}))
    assert "| amounts | in USD, by 2 rates |\n" in card
    assert "--rates models/shop`" in card
    dated = metadata.model_copy(
        update={"rates": Rates(as_of="2026-06-30", **rates.model_dump(exclude={"as_of"}))}
    )
    assert "| amounts | in USD, by 2 rates of 2026-06-30 |\n" in model_card(dated)


def test_step_sizes_stand_by_adapted_layer_and_inner_step(metadata: Metadata) -> None:
    sizes = {"out_weight_BMH": (0.5, 0.25), "out_bias_BM": (0.125, 1e-6)}
    card = model_card(metadata.model_copy(update={"step_sizes": sizes}))
    assert re.search(r"^\| layer \| 1 \| 2 \|$", card, re.MULTILINE)
    for row in ("| out weight | 0.5 | 0.25 |", "| out bias | 0.12 | 1e-06 |"):
        assert row in card


def test_the_card_of_a_simulated_model_says_that_it_is_only_a_start(metadata: Metadata) -> None:
    assert "**The data are simulated.**" in model_card(metadata)
    handbook = metadata.model_copy(update={"spec": DatasetSpec.load("handbook")})
    assert "simulated" not in model_card(handbook)


def test_the_shipped_model_is_reproduced_by_make_and_any_other_by_its_command(
    metadata: Metadata,
) -> None:
    shipped = model_card(metadata.model_copy(update={"name": "default"}))
    assert "`make train`" in shipped
    own = model_card(metadata)
    assert "make train" not in own
    assert (
        "`quickstudy train --data FILE --spec SPEC --out models/tiny --seed 0 --algorithm anil "
        "--global-steps 20 --meta-steps 10`"
    ) in own
    without = metadata.model_copy(update={"options": {**metadata.options, "trees": False}})
    assert "--meta-steps 10 --no-trees`" in model_card(without)
    maml = metadata.model_copy(update={"algorithm": "maml"})
    assert "--algorithm maml " in model_card(maml)


def test_a_card_names_the_model_that_a_training_began_with(metadata: Metadata) -> None:
    options = {**metadata.options, "meta_steps": 0, "start": "b629737d6464", "heed": 8.0}
    going_on = metadata.model_copy(update={"options": options})
    own = model_card(going_on)
    assert "begins with `b629737d6464`" in own
    assert "stayed as it was, but for the heed." in own
    assert " --global-steps 20 --heed 8.0 --start MODEL`" in own
    assert "--meta-steps" not in own
    shipped = model_card(going_on.model_copy(update={"name": "default"}))
    assert "`make train START=MODEL`" in shipped
    alone = model_card(metadata.model_copy(update={"options": {**options, "start": None}}))
    assert "| start |" not in alone
    assert "First the network" in alone


def test_a_card_without_figures_says_that_there_are_none(metadata: Metadata) -> None:
    card = model_card(metadata.model_copy(update={"metrics": {}, "options": {}, "versions": {}}))
    assert "None were measured." in card
    assert "| review | 0.120000 | unknown |" in card


def test_names_are_text_and_never_markup(metadata: Metadata) -> None:
    card = model_card(metadata.model_copy(update={"name": "<b>`x`|\n## Owned"}))
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert "\\<b\\>" in card


def test_the_card_of_the_shipped_model_is_the_one_that_training_writes() -> None:
    card = (SHIPPED_MODEL / "README.md").read_text()
    assert card == model_card(Checkpoint.load(SHIPPED_MODEL).metadata)


def test_the_card_says_when_probabilities_are_not_calibrated(metadata: Metadata) -> None:
    identity = Calibration(slope=1.0, shift=0.0)
    card = model_card(metadata.model_copy(update={"calibration": identity}))
    assert "too few frauds were held out" in card
