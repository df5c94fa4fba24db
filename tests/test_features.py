"""The contract that every feature keeps, whatever the spec, and that serving computes training's.

A feature is finite for any input, sees only what happened strictly before, does not depend on
the order of equal inputs, and takes a missing value as neutral.
"""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.learner import features as definition
from app.learner.features import (
    EntityLabels,
    Features,
    FeatureSet,
    Memory,
    evidence_names,
    without_identities,
)
from app.learner.network import Columns
from app.learner.spec import DatasetSpec
from app.learner.states import NEVER_US, Ints, States
from app.learner.transaction import (
    ASIDE,
    CATEGORY_CODES,
    DAY_US,
    HOUR_US,
    MISSING,
    REFUSED,
    SPENT,
    TRIED,
    UNDECIDED,
    TransactionColumns,
)
from app.training.dataset import read_transactions
from tests.definition import Written

ALL = DatasetSpec.model_validate(
    {
        "name": "all",
        "columns": {
            "transaction": "t",
            "account": "a",
            "time": "at",
            "amount": "paid",
            "currency": "currency",
            "label": "y",
        },
        "label": {"delay_days": 3},
        "entities": {"merchant": "m", "device": "d", "wallet": "w"},
        "categorical": {"channel": "channel", "country": "country", "currency": "c", "plan": "p"},
        "numeric": {"age": "age", "distance": "distance"},
    }
)
NONE = DatasetSpec.model_validate(
    {
        "name": "none",
        "columns": {"transaction": "t", "account": "a", "time": "at", "amount": "paid"},
    }
)


def spec_with(**changes: Any) -> DatasetSpec:
    """The spec without anything optional, and these changes."""
    return DatasetSpec.model_validate(NONE.model_dump() | changes)


SPECS = {"all": ALL, "none": NONE}
SETS = {name: FeatureSet(spec) for name, spec in SPECS.items()}

YEAR_1970_US, YEAR_9999_US = 0, 253_402_300_799_999_999
MINUTE_US = HOUR_US // 60
FIRST_US = 1_700_000_000_000_000
ROWS, ACCOUNTS, OF_A_KIND = 160, 5, 4
ENTITIES = len(ALL.entity_names) * OF_A_KIND
LINKS = ENTITIES * ACCOUNTS


def linked(columns: TransactionColumns) -> TransactionColumns:
    """With the code of each entity, and its link with the row's account."""
    is_none_NK = columns.entity_NK < 0
    link_NK = columns.entity_NK * ACCOUNTS + columns.account_N[:, None]
    # Of the largest codes, two neighbours are the same where float32 does not hold them.
    code_NK = np.where(is_none_NK, MISSING, CATEGORY_CODES - columns.entity_NK)
    return replace(columns, link_NK=np.where(is_none_NK, -1, link_NK), entity_code_NK=code_NK)


def drawn(spec: DatasetSpec, seed: int = 0, rows: int = ROWS) -> TransactionColumns:
    """Transactions of a few accounts and entities over 60 days, sorted by time.

    There are bursts within the hour and ties, and values are missing now and then.
    """
    rng = np.random.default_rng(seed)
    kinds = len(spec.entity_names)
    fields_, numbers = len(spec.categorical_names), len(spec.numeric_names)
    account_N = rng.integers(0, ACCOUNTS, rows)
    entity_NK = rng.integers(-1, OF_A_KIND, (rows, kinds))
    entity_NK = np.where(entity_NK < 0, -1, entity_NK + OF_A_KIND * np.arange(kinds))
    number_NM = rng.normal(0, 10, (rows, numbers))
    number_NM[rng.random((rows, numbers)) < 0.2] = np.nan
    amount_N = np.round(rng.lognormal(3, 1, rows), 2)
    amount_N[rng.random(rows) < 0.1] = np.nan
    standing_N = rng.choice(5, rows, p=[0.6, 0.15, 0.1, 0.1, 0.05])
    time_us_N = FIRST_US + rng.integers(0, 24 * 60, rows) * HOUR_US
    time_us_N[1::5] = time_us_N[::5][: len(time_us_N[1::5])]
    for first in (2, 3):
        burst = slice(first, None, 5)
        later = rng.integers(1, 40, len(time_us_N[burst])) * MINUTE_US
        time_us_N[burst] = time_us_N[first - 1 :: 5][: len(later)] + later
        account_N[burst] = account_N[first - 1 :: 5][: len(later)]
    columns = TransactionColumns(
        account_N,
        entity_NK,
        entity_NK,
        entity_NK,
        time_us_N,
        amount_N,
        standing_N,
        rng.integers(0, 40, (rows, fields_)),
        number_NM,
    )
    return linked(columns).take(np.argsort(time_us_N, kind="stable"))


def labels_of(spec: DatasetSpec, columns: TransactionColumns, seed: int = 0) -> EntityLabels:
    """A label of every row for each of its entities; they mature after the label delay."""
    is_fraud_N = (np.random.default_rng(seed).random(len(columns)) < 0.3).astype(np.float64)
    rows, kinds = np.nonzero(columns.entity_NK >= 0)
    matures_N = columns.time_us_N + spec.label.delay_us
    return EntityLabels(columns.entity_NK[rows, kinds], matures_N[rows], is_fraud_N[rows])


def empty(features: FeatureSet) -> Memory:
    return features.empty(ACCOUNTS, ENTITIES, LINKS)


def is_same(memory: Memory, other: Memory) -> bool:
    """To the bit."""
    return (memory.accounts, memory.entities, memory.confirmed) == (
        other.accounts,
        other.entities,
        other.confirmed,
    ) and np.array_equal(memory.first_use_us_L, other.first_use_us_L)


def joined(*parts: TransactionColumns) -> TransactionColumns:
    names = [field.name for field in fields(TransactionColumns)]
    return TransactionColumns(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


def names_where(features: FeatureSet, is_so_F: np.ndarray) -> list[str]:
    return [name for name, is_so in zip(features.names, is_so_F, strict=True) if is_so]


def differing(
    features: FeatureSet, one_NF: Features, other_NF: Any, relative: float = 0, absolute: float = 0
) -> list[str]:
    """The features of which a row has another value."""
    close_NF = np.isclose(one_NF, other_NF, relative, absolute)
    return names_where(features, ~close_NF.all(0))


def hostile(spec: DatasetSpec) -> TransactionColumns:
    """Every extreme amount, time, attribute and category of one account, each with each."""
    times = (YEAR_1970_US, FIRST_US, YEAR_9999_US)
    amounts = (0.0, 1e-9, 10.0, 1e15, np.nan)
    numbers = (0.0, 1e300, -1e300, 1e-300, np.nan, np.inf, -np.inf)
    grid = np.array(np.meshgrid(times, amounts, numbers, indexing="ij"), dtype=object)
    time_N, amount_N, number_N = grid.reshape(3, -1)
    rows, kinds = len(time_N), len(spec.entity_names)
    code_N = np.resize([0, 1, 2**24 - 1], rows)
    entity_N = np.resize([-1, 0], rows)
    entity_NK = np.where(entity_N[:, None] < 0, -1, np.arange(kinds))
    columns = TransactionColumns(
        np.zeros(rows, np.int64),
        entity_NK,
        entity_NK,
        entity_NK,
        time_N.astype(np.int64),
        amount_N.astype(np.float64),
        np.resize([SPENT, SPENT, REFUSED, TRIED, ASIDE, UNDECIDED, SPENT, REFUSED], rows),
        np.repeat(code_N[:, None], len(spec.categorical_names), 1),
        np.repeat(number_N.astype(np.float64)[:, None], len(spec.numeric_names), 1),
    )
    return linked(columns)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SPECS)
def test_a_feature_is_what_its_name_says(name: str, seed: int) -> None:
    spec, features = SPECS[name], SETS[name]
    columns = drawn(spec, seed)
    labels = labels_of(spec, columns, seed)
    wanted = list(Written(spec, columns, labels).all())
    assert set(wanted[0]) == set(features.names)
    wanted_NF = [[row[feature] for feature in features.names] for row in wanted]
    found_NF = features.compute(columns, None, labels)
    assert differing(features, found_NF, wanted_NF, 1e-5, 1e-6) == []


@pytest.mark.parametrize("is_late", [False, True])
def test_slots_of_entities_are_together_what_one_state_would_be(is_late: bool) -> None:
    """However the batches fall on them; of an entity with one slot to the bit."""
    features, rng = SETS["all"], np.random.default_rng(3)
    columns = drawn(ALL)
    order_N = rng.permutation(ROWS) if is_late else np.arange(ROWS)
    none = EntityLabels.none()
    alone, apart = empty(features), empty(features)
    slots, slot_of = [apart.entities.copy() for _ in range(3)], rng.integers(0, 3, ENTITIES)
    for rows in np.array_split(order_N, 40):
        some = columns.take(np.sort(rows))
        wanted_NF = features.serve(some, alone, none)
        slot = int(rng.integers(0, 3))
        # Half of the entities are in one slot, whoever comes.
        own = [slots[slot if g % 2 else slot_of[g]].to_bytes()[g] for g in range(ENTITIES)]
        before = replace(apart, entities=States.from_bytes(own, features.entity_sums))
        others = [
            (g, states.to_bytes()[g])
            for n, states in enumerate(slots)
            for g in range(1, ENTITIES, 2)
            if n != slot
        ]
        whole = features.gather(
            before.entities,
            np.array([g for g, _ in others]),
            States.from_bytes([state for _, state in others], features.entity_sums),
        )
        apart = features.remember(some, before, none)
        found_NF = features.compute(some, replace(before, entities=whole))
        assert differing(features, found_NF, wanted_NF, 1e-5, 1e-6) == []
        after = apart.entities.to_bytes()
        for n, states in enumerate(slots):
            kept = states.to_bytes()
            for g in range(ENTITIES):
                if n == (slot if g % 2 else slot_of[g]):
                    kept[g] = after[g]
            slots[n] = States.from_bytes(kept, features.entity_sums)
    first, *others_ = slots
    for states in others_:
        first = features.gather(first, np.arange(ENTITIES), states)
    assert first.to_bytes()[::2] == alone.entities.to_bytes()[::2]
    np.testing.assert_array_equal(first.time_us_G, alone.entities.time_us_G)
    np.testing.assert_array_equal(first.previous_us_G, alone.entities.previous_us_G)
    np.testing.assert_allclose(first.before_GD, alone.entities.before_GD, 1e-12, 1e-12)
    np.testing.assert_allclose(first.at_GD, alone.entities.at_GD, 1e-12, 1e-12)


@pytest.mark.parametrize("most", [1, 12])
@pytest.mark.parametrize("name", SPECS)
def test_a_feature_of_a_late_row_is_what_its_name_says_of_what_had_arrived(
    name: str, most: int
) -> None:
    """Batches out of the order of time, on stored states."""
    spec, features = SPECS[name], SETS[name]
    columns = drawn(spec, seed=5)
    # What is never decided leaves no trace where it is late.
    columns = columns.take(columns.standing_N != UNDECIDED)
    # Few days late, or a row would hardly ever be in time.
    delay_N = np.random.default_rng(5).exponential(2 * DAY_US, len(columns))
    columns = columns.take(np.argsort(columns.time_us_N + delay_N))
    labels = labels_of(spec, columns)
    service = Service(features, labels)
    sizes = random_sizes(len(columns), most, seed=5)
    found_NF = service.serve(columns, sizes)
    batch_N = np.repeat(np.arange(len(sizes)), sizes)[: len(columns)]
    wanted = Written(spec, columns, labels, batch_N, service.batch_E).all()
    wanted_NF = [[row[feature] for feature in features.names] for row in wanted]
    assert differing(features, found_NF, wanted_NF, 1e-5, 1e-6) == []


@pytest.mark.parametrize("name", SPECS)
def test_a_feature_is_finite_for_hostile_values(name: str) -> None:
    """One after another, on hostile memory, and each alone."""
    spec, features = SPECS[name], SETS[name]
    columns = hostile(spec)
    labels = labels_of(spec, columns)
    memory = features.remember(columns, empty(features), labels)
    alone = [features.compute(columns.take(np.array([n]))) for n in range(len(columns))]
    found_NF = np.concatenate(
        [features.compute(columns, None, labels), features.compute(columns, memory, labels), *alone]
    )
    assert names_where(features, ~np.isfinite(found_NF).all(0)) == []


AMOUNTS = st.sampled_from([0.0, 1e-8, 999_999_999_999_999.9, np.nan]) | st.floats(0, 1e15)
INSTANTS = st.sampled_from([YEAR_1970_US, YEAR_9999_US]) | st.integers(YEAR_1970_US, YEAR_9999_US)
NUMBERS = st.floats() | st.sampled_from([np.nan, np.inf, -1e300, 5e-324])
CODES = st.sampled_from([0, 1, 2**24 - 1]) | st.integers(0, 2**24 - 1)
STANDINGS = st.sampled_from([SPENT, REFUSED, TRIED, ASIDE, UNDECIDED])


@st.composite
def accepted(draw: st.DrawFn, instants: st.SearchStrategy[int] = INSTANTS) -> TransactionColumns:
    """Anything that could be accepted, of two accounts and two entities of each kind."""
    rows = draw(st.integers(1, 12))

    def many(values: st.SearchStrategy[Any], width: int = 1) -> np.ndarray:
        drawn_N = draw(st.lists(values, min_size=rows * width, max_size=rows * width))
        return np.array(drawn_N).reshape(rows, width)

    kinds, fields_ = len(ALL.entity_names), len(ALL.categorical_names)
    entity_NK = many(st.integers(-1, 1), kinds)
    entity_NK = np.where(entity_NK < 0, -1, entity_NK + OF_A_KIND * np.arange(kinds))
    columns = TransactionColumns(
        many(st.integers(0, 1))[:, 0],
        entity_NK,
        entity_NK,
        entity_NK,
        many(instants)[:, 0].astype(np.int64),
        many(AMOUNTS)[:, 0].astype(np.float64),
        many(STANDINGS)[:, 0].astype(np.int64),
        many(CODES, fields_).astype(np.int64),
        many(NUMBERS, len(ALL.numeric_names)).astype(np.float64),
    )
    return linked(columns)


@given(accepted(), accepted(), st.randoms(use_true_random=False))
def test_features_of_anything_accepted_are_finite_whatever_came_before_in_whatever_order(
    past: TransactionColumns, columns: TransactionColumns, random: Any
) -> None:
    features = SETS["all"]
    labels = labels_of(ALL, past)
    memory = features.remember(past, empty(features), labels)
    order_N = np.array(random.sample(range(len(columns)), len(columns)))
    found_NF = features.compute(columns, memory, labels)
    assert np.isfinite(found_NF).all()
    assert np.isfinite(features.compute(joined(past, columns), None, labels)).all()
    other_NF = features.compute(columns.take(order_N), memory, labels)
    # What was before late rows of one instant depends on which of them arrived first.
    ordered_F = [not name.startswith("account_burst_z") for name in features.names]
    np.testing.assert_allclose(
        other_NF[:, ordered_F], found_NF[order_N][:, ordered_F], rtol=1e-4, atol=1e-4
    )
    for states in (memory.accounts, memory.entities, memory.confirmed):
        assert all(np.isfinite(sums).all() for sums in (states.before_GD, states.at_GD))


@pytest.mark.parametrize("name", SPECS)
def test_a_feature_sees_only_what_was_strictly_before(name: str) -> None:
    """Features stay as they are when what is simultaneous or later is another.

    The second file has other amounts, entities, standings, categories and attributes from the
    middle instant on, more rows of that instant and later, and other labels that mature from then
    on.
    """
    spec, features = SPECS[name], SETS[name]
    columns = drawn(spec)
    middle_us = columns.time_us_N[ROWS // 2]
    past = columns.time_us_N < middle_us
    labels = labels_of(spec, columns)
    early = labels.time_us_E < middle_us
    others = replace(drawn(spec, seed=1), time_us_N=np.maximum(columns.time_us_N, middle_us))
    changed = joined(columns.take(past), others)
    changed_labels = EntityLabels(
        labels.entity_E,
        np.where(early, labels.time_us_E, middle_us),
        np.where(early, labels.is_fraud_E, 1.0),
    )
    # The same questions at the middle instant, after either past.
    questions = replace(drawn(spec, seed=2, rows=20), time_us_N=np.full(20, middle_us))
    seen = np.concatenate([np.flatnonzero(past), np.arange(ROWS, ROWS + 20)])
    one_NF = features.compute(joined(columns, questions), None, labels)[seen]
    size = past.sum()
    seen = np.concatenate([np.arange(size), np.arange(len(changed), len(changed) + 20)])
    other_NF = features.compute(joined(changed, questions), None, changed_labels)[seen]
    assert differing(features, other_NF, one_NF, absolute=1e-6) == []


@pytest.mark.parametrize("name", SPECS)
def test_the_features_do_see_what_was_before(name: str) -> None:
    # So that the test above is not passed by features that see nothing.
    columns, features = drawn(SPECS[name]), SETS[name]
    labels = labels_of(SPECS[name], columns)
    seen_NF = features.compute(columns, None, labels)
    alone_NF = np.concatenate([features.compute(columns.take([n])) for n in range(ROWS)])
    starts = "account_", *(f"{kind}_" for kind in SPECS[name].entity_names)
    own = "_missing", "_identity"
    past = [f for f in features.names if f.startswith(starts) and not f.endswith(own)]
    assert differing(features, seen_NF, alone_NF, absolute=1e-3) == past


@pytest.mark.parametrize("name", SPECS)
def test_the_order_of_the_inputs_changes_no_feature(name: str) -> None:
    columns, features = drawn(SPECS[name]), SETS[name]
    labels = labels_of(SPECS[name], columns)
    rng = np.random.default_rng(3)
    order_N, order_E = rng.permutation(ROWS), rng.permutation(len(labels.time_us_E))
    mixed = EntityLabels(
        labels.entity_E[order_E], labels.time_us_E[order_E], labels.is_fraud_E[order_E]
    )
    other_NF = np.empty((ROWS, len(features.names)), np.float32)
    other_NF[order_N] = features.compute(columns.take(order_N), None, mixed)
    found_NF = features.compute(columns, None, labels)
    assert differing(features, other_NF, found_NF, absolute=1e-6) == []


def complete(columns: TransactionColumns) -> TransactionColumns:
    """The last row has all there is, and is a later one of its account."""
    entity_NK = columns.entity_NK.copy()
    entity_NK[-1] = OF_A_KIND * np.arange(entity_NK.shape[1]) + 1
    columns = linked(replace(columns, entity_NK=entity_NK))
    columns.categorical_NC[-1], columns.numeric_NM[-1] = 5, 3.5
    columns.amount_N[-1], columns.standing_N[-1] = 33.0, SPENT
    return columns


def without(columns: TransactionColumns, spec: DatasetSpec, field: str) -> TransactionColumns:
    """The last row says nothing of one field."""
    columns = columns.take(np.arange(len(columns)))
    if field == "amount":
        columns.amount_N[-1] = np.nan
    elif field in spec.numeric_names:
        columns.numeric_NM[-1, spec.numeric_names.index(field)] = np.nan
    elif field in spec.entity_names:
        k = spec.entity_names.index(field)
        columns.entity_NK[-1, k] = columns.link_NK[-1, k] = -1
        columns.entity_code_NK[-1, k] = MISSING
    else:
        columns.categorical_NC[-1, spec.categorical_names.index(field)] = 0
    return columns


def comparing(spec: DatasetSpec, field: str) -> list[str]:
    """The features that set a field against the past, or say it."""
    names = FeatureSet(spec).names
    if field == "amount":
        return ["log_amount", *(n for n in names if "_amount_z_" in n or "_amount_ratio_" in n)]
    if field in spec.numeric_names:
        return [f"attribute_{field}", f"account_{field}_z"]
    if field in spec.entity_names:
        return [n for n in names if n.startswith(f"{field}_") and n != f"{field}_missing"]
    return [f"{field}_code", f"account_{field}_novelty", f"account_{field}_novelty_1h"]


FIELDS = ["amount", *ALL.entity_names, *ALL.categorical_names, *ALL.numeric_names]


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_value_is_neutral(field: str) -> None:
    features, columns = SETS["all"], complete(drawn(ALL))
    labels = labels_of(ALL, columns)
    full_F = features.compute(columns, None, labels)[-1]
    without_F = features.compute(without(columns, ALL, field), None, labels)[-1]
    neutral = comparing(ALL, field)
    for name, whole, lacking in zip(features.names, full_F, without_F, strict=True):
        if name in neutral:
            assert lacking == 0.0, name
        elif name in (f"{field}_missing", f"attribute_{field}_missing"):
            assert (whole, lacking) == (0.0, 1.0)
        else:
            assert lacking == whole, name
    seen = [name for name in neutral if full_F[features.names.index(name)] != 0]
    assert len(seen) > len(neutral) / 2


# What later rows compare with, of each field.
LEFT_BY = {
    "amount": r"(account|device|merchant|wallet)_(log_amount|amount|mean_amount|attempted)_.*",
    **{kind: rf"{kind}_.*|account_new_{kind}_.*" for kind in ALL.entity_names},
    **{name: rf"account_{name}_.*" for name in [*ALL.categorical_names, *ALL.numeric_names]},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_value_leaves_no_trace_in_what_later_rows_compare(field: str) -> None:
    features, columns = SETS["all"], complete(drawn(ALL))
    columns.account_N[-1] = 0
    columns = linked(columns)
    later = replace(columns.take([-1]), time_us_N=columns.time_us_N[-1:] + HOUR_US)
    # As if the row had been there for all but this field.
    earlier = columns.take(np.arange(ROWS - 1))
    lacking = without(columns, ALL, field)
    whole_F, lacking_F, never_F = (
        features.compute(joined(before, later))[-1] for before in (columns, lacking, earlier)
    )
    compared_F = np.array([bool(re.fullmatch(LEFT_BY[field], name)) for name in features.names])
    np.testing.assert_allclose(lacking_F[compared_F], never_F[compared_F], rtol=1e-5, atol=1e-6)
    assert (np.abs(whole_F - never_F)[compared_F] > 1e-3).sum() > compared_F.sum() / 5


@pytest.mark.parametrize("name", SPECS)
def test_the_names_of_the_features_are_unique(name: str) -> None:
    features = SETS[name]
    assert len(set(features.names)) == len(features.names) == len(features.kinds)


def test_only_categories_are_codes() -> None:
    features = FeatureSet(spec_with(numeric={"zip_code": "zip"}, categorical={"plan": "p"}))
    kinds = dict(zip(features.names, features.kinds, strict=True))
    assert [name for name, kind in kinds.items() if kind == "code"] == ["plan_code"]
    assert kinds["attribute_zip_code"] == "own"
    assert kinds["account_zip_code_z"] == "history"


def test_each_kind_of_entity_has_an_identity_before_its_other_features() -> None:
    features = SETS["all"]
    identities = [f"{kind}_identity" for kind in ALL.entity_names]
    assert kinds_of(features, "identity") == identities
    for kind in ALL.entity_names:
        of_kind = [name for name in features.names if name.startswith(f"{kind}_")]
        assert of_kind[:2] == [f"{kind}_identity", f"{kind}_missing"]
    rest = [features.names[f] for f in without_identities(features.kinds)]
    assert rest == [name for name in features.names if name not in identities]


def test_of_each_kind_of_entity_it_is_known_whether_the_account_has_used_it() -> None:
    features = SETS["all"]
    used = [f"{kind}_used" for kind in ALL.entity_names]
    assert kinds_of(features, "used") == used
    assert Columns.of(features.kinds).used == [
        (features.names.index(f"{kind}_identity"), features.names.index(f"{kind}_used"))
        for kind in ALL.entity_names
    ]
    assert kinds_of(FeatureSet(spec_with(numeric={"used": "u"}, entities={})), "used") == []


def test_a_field_is_no_identity_by_its_name() -> None:
    numeric, categorical = {"user_identity": "u"}, {"device_identity": "d"}
    fields_ = spec_with(numeric=numeric, categorical=categorical, entities={"device": "id"})
    assert kinds_of(FeatureSet(fields_), "identity") == ["device_identity"]
    with pytest.raises(ValueError, match="two fields both give a feature attribute_identity"):
        FeatureSet(spec_with(numeric={"identity": "i"}, entities={"attribute": "a"}))


def test_an_identity_is_the_code_of_the_entity_exactly_and_0_without_one() -> None:
    features, columns = SETS["all"], drawn(ALL)
    identities = [features.names.index(f"{kind}_identity") for kind in ALL.entity_names]
    identity_NK = features.compute(columns)[:, identities]
    np.testing.assert_array_equal(identity_NK.astype(np.int64), columns.entity_code_NK)
    assert ((identity_NK == 0) == (columns.entity_NK < 0)).all()
    assert identity_NK.max() == CATEGORY_CODES
    assert len(np.unique(identity_NK)) == 1 + ENTITIES


def test_an_identity_is_in_no_sum() -> None:
    features, columns = SETS["all"], drawn(ALL)
    others = replace(columns, entity_code_NK=np.zeros_like(columns.entity_code_NK))
    memories = [
        features.remember(some, empty(features), EntityLabels.none()) for some in (columns, others)
    ]
    assert is_same(*memories)
    differ = differing(features, features.compute(columns), features.compute(others))
    assert differ == [f"{kind}_identity" for kind in ALL.entity_names]


def kinds_of(features: FeatureSet, kind: str) -> list[str]:
    return names_where(features, np.array(features.kinds) == kind)


def test_what_is_of_the_amount_is_what_rises_with_it() -> None:
    features, columns = SETS["all"], complete(drawn(ALL))
    again = replace(columns.take([-1]), time_us_N=columns.time_us_N[-1:] + MINUTE_US)
    columns, more = joined(columns, again), joined(columns, again)
    more.amount_N[-1] *= 2
    rise_F = features.compute(more)[-1] - features.compute(columns)[-1]
    assert kinds_of(features, "amount") == names_where(features, rise_F > 0)
    assert not (rise_F < 0).any()


def test_what_is_of_the_pace_is_what_a_burst_raises() -> None:
    """Attempts of the last day, and not the share, the gap or the habit that they change too."""
    spans = ("5m", "1h", "1d")
    pace = {f"account_{what}_{span}" for what in ("attempts", "attempted") for span in spans}
    for kind in ALL.entity_names:
        pace |= {f"{kind}_count_{span}" for span in ("5m", "1h", "1d")}
        pace |= {f"{kind}_accounts_{span}" for span in ("1h", "1d")}
    assert set(kinds_of(SETS["all"], "pace")) == pace
    refused = {f"account_refused_{span}" for span in spans}
    assert set(kinds_of(SETS["all"], "refused")) == refused


def test_a_field_is_no_amount_and_no_pace_by_its_name() -> None:
    odd = ["amount_z_1d", "order_amount_ratio_5m", "count_1h"]
    numeric = {name: name for name in odd}
    categorical = {f"a_{name}": name for name in odd}
    entities = {"accounts": "a", "count": "c"}
    features = FeatureSet(
        spec_with(numeric=numeric, categorical=categorical, entities=entities),
    )
    plain = FeatureSet(spec_with(entities=entities))
    for kind in ("amount", "pace", "refused"):
        assert kinds_of(features, kind) == kinds_of(plain, kind)
        assert not any("new" in name for name in kinds_of(plain, kind))


def test_the_digest_changes_with_the_names() -> None:
    another = FeatureSet(spec_with(numeric={"age": "age"}))
    assert len({SETS["all"].digest, SETS["none"].digest, another.digest}) == 3


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("DEFINITION", -1),
        ("RECENT_HALF_LIVES", definition.RECENT_HALF_LIVES | {"5m": 1.0}),
        ("HABIT_HALF_LIVES", definition.HABIT_HALF_LIVES | {"120d": 121.0}),
        ("ENTITY_HALF_LIVES", definition.ENTITY_HALF_LIVES | {"5m": 1.0}),
        ("LABEL_HALF_LIVES", definition.LABEL_HALF_LIVES | {"6h": 0.5}),
        ("BUCKETS", 8),
        ("LEAST_SPREAD", 0.1),
    ],
)
def test_the_digest_changes_with_the_definition(
    constant: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition, constant, value)
    assert FeatureSet(NONE).digest != SETS["none"].digest


def test_the_columns_a_file_uses_do_not_change_the_digest() -> None:
    columns = {"transaction": "id", "account": "card", "time": "time", "amount": "euros"}
    spec = spec_with(name="another", columns=columns)
    assert FeatureSet(spec).digest == SETS["none"].digest


def test_no_transactions_have_no_features() -> None:
    for name, features in SETS.items():
        nothing = drawn(SPECS[name]).take(np.zeros(0, np.int64))
        assert features.compute(nothing).shape == (0, len(features.names))


class Service:
    """What serving computes: batch by batch on stored states, labels folded as they mature.

    Accounts, entities and links get other positions in every batch, as in the service. `batch_E`
    says which batch folded each label: as many as there were where none has.
    """

    def __init__(self, features: FeatureSet, labels: EntityLabels) -> None:
        self.features, self.labels = features, labels
        self.accounts: dict[int, bytes] = {}
        self.entities: dict[int, tuple[bytes, bytes]] = {}
        self.first_uses_us: dict[int, int] = {}
        self.batches = 0
        self.batch_E = np.full(len(labels.time_us_E), 2**31)
        self.order_E = np.argsort(labels.entity_E, kind="stable")

    def serve(self, columns: TransactionColumns, sizes: list[int]) -> Features:
        """The features of the rows in batches of these sizes, in their order."""
        assert sum(sizes) >= len(columns)
        ends = np.cumsum(sizes)
        return np.concatenate(
            [
                self._batch(columns.take(slice(end - size, end)))
                for size, end in zip(sizes, ends.tolist(), strict=True)
            ]
        )

    def _batch(self, batch: TransactionColumns) -> Features:
        features, newest_us = self.features, batch.time_us_N
        accounts, account_N = np.unique(batch.account_N, return_inverse=True)
        entities, entity_NK = renumbered(batch.entity_NK)
        links, link_NK = renumbered(batch.link_NK)
        matured = []
        for entity in entities:
            newest_us = batch.time_us_N[(batch.entity_NK == entity).any(1)].max()
            matured += self._matured(entity, newest_us)
        self.batch_E[matured] = self.batches
        place_E = np.searchsorted(entities, self.labels.entity_E[matured])
        labels = EntityLabels(
            place_E, self.labels.time_us_E[matured], self.labels.is_fraud_E[matured]
        )
        states = [self.entities.get(entity, (None, None)) for entity in entities]
        memory = Memory(
            States.from_bytes(map(self.accounts.get, accounts.tolist()), features.account_sums),
            States.from_bytes([uses for uses, _ in states], features.entity_sums),
            States.from_bytes([folded for _, folded in states], features.confirmed_sums),
            np.array([self.first_uses_us.get(link, NEVER_US) for link in links], np.int64),
        )
        rows = replace(batch, account_N=account_N, entity_NK=entity_NK, link_NK=link_NK)
        found_NF = features.compute(rows, memory, labels)
        after = features.remember(rows, memory, labels)
        self.accounts |= zip(accounts.tolist(), after.accounts.to_bytes(), strict=True)
        pairs = zip(after.entities.to_bytes(), after.confirmed.to_bytes(), strict=True)
        self.entities |= zip(entities, pairs, strict=True)
        self.first_uses_us |= zip(links, after.first_use_us_L.tolist(), strict=True)
        self.batches += 1
        return found_NF

    def _matured(self, entity: int, until_us: int) -> list[int]:
        first, end = np.searchsorted(self.labels.entity_E[self.order_E], [entity, entity + 1])
        of_it = self.order_E[first:end]
        is_new = self.batch_E[of_it] > self.batches
        folded: list[int] = of_it[is_new & (self.labels.time_us_E[of_it] < until_us)].tolist()
        return folded


def renumbered(position_NK: Ints) -> tuple[list[int], Ints]:
    """The positions that there are, and each as its place among them, -1 where there is none."""
    positions = np.unique(position_NK[position_NK >= 0])
    place_NK = np.searchsorted(positions, position_NK)
    return positions.tolist(), np.where(position_NK < 0, -1, place_NK)


def random_sizes(rows: int, most: int, seed: int) -> list[int]:
    sizes = np.random.default_rng(seed).integers(1, most + 1, rows)
    return sizes[: int(np.searchsorted(np.cumsum(sizes), rows)) + 1].tolist()


@settings(max_examples=25)
@given(st.sampled_from(sorted(SPECS)), st.integers(0, 1000), st.sampled_from([1, 7, 50, ROWS]))
def test_batches_on_stored_states_have_the_features_of_the_file(
    name: str, seed: int, most: int
) -> None:
    columns, features = drawn(SPECS[name], seed), SETS[name]
    labels = labels_of(SPECS[name], columns, seed)
    served_NF = Service(features, labels).serve(columns, random_sizes(ROWS, most, seed))
    np.testing.assert_array_equal(served_NF, features.compute(columns, None, labels))


@pytest.mark.parametrize("name", SPECS)
def test_late_rows_one_by_one_have_the_features_and_states_of_a_batch(name: str) -> None:
    """They see the sums as they stood before the newest event, with what was added since."""
    columns, features = drawn(SPECS[name]), SETS[name]
    times_N = np.unique(columns.time_us_N, return_index=True)[1]
    early, late = columns.take(times_N[::2]), columns.take(times_N[1::2])
    none = EntityLabels.none()
    memory = features.remember(early, empty(features), none)
    together, alone = memory.copy(), memory.copy()
    together_NF = features.serve(late, together, none)
    alone_NF = [features.serve(late.take([n]), alone, none)[0] for n in range(len(late))]
    np.testing.assert_array_equal(alone_NF, together_NF)
    assert is_same(alone, together)
    # Late they are: in the order of time they would have seen more.
    assert (features.compute(joined(early, late))[len(early) :] != together_NF).any()


def test_the_attempts_before_a_late_row_are_those_that_had_arrived() -> None:
    """Of two late rows the later to arrive is added as one that followed an attempt."""
    features, columns = SETS["none"], drawn(NONE, rows=4)
    columns.account_N[:], columns.standing_N[:], columns.amount_N[:] = 0, SPENT, 10.0
    columns.time_us_N[:] = FIRST_US + MINUTE_US * np.array([10, 0, 3, 20])
    found = []
    for arrival in ([1, 2, 0, 3], [0, 1, 2, 3], [0, 2, 1, 3]):
        memory = empty(features)
        rows = [features.serve(columns.take([n]), memory, EntityLabels.none()) for n in arrival]
        found.append(dict(zip(features.names, rows[-1][0].tolist(), strict=True)))
    in_time, late, late_too = found
    bursts = ["account_burst_z_5m", "account_burst_z_1h"]
    for name in features.names:
        if name in bursts:
            assert len({in_time[name], late[name], late_too[name]}) == 3
        else:
            assert late[name] == pytest.approx(in_time[name], abs=1e-5), name
            assert late_too[name] == pytest.approx(in_time[name], abs=1e-5), name


def by_their_features(features_NF: Features) -> Ints:
    """How rows count, where the smallest difference of any feature decides."""
    return np.array([crc32(row_F.tobytes()) % 3 for row_F in features_NF], np.int64)


assert (SPENT, REFUSED, TRIED) == (0, 1, 2)
Decide = Callable[[Ints, Features], Ints]


def deciding(chosen_N: Ints) -> Decide:
    """Decides by their features, and keeps what was decided."""

    def decide(rows: Ints, features_NF: Features) -> Ints:
        chosen_N[rows] = by_their_features(features_NF)
        return chosen_N[rows]

    return decide


def opened(columns: TransactionColumns) -> TransactionColumns:
    """All rows of an account that share an instant are UNDECIDED, or none; refunds never are.

    Of some that are and some that are not, the sums may differ in the last bit.
    """
    is_open = (columns.account_N + columns.time_us_N // MINUTE_US) % 3 > 0
    standing_N = np.where(columns.standing_N == UNDECIDED, SPENT, columns.standing_N)
    standing_N[is_open & (standing_N != ASIDE)] = UNDECIDED
    return replace(columns, standing_N=standing_N)


# Few instants: an hour of them, which many rows share.
COARSE = st.integers(0, 20).map(lambda minutes: FIRST_US + 3 * minutes * MINUTE_US)
LABELS = st.lists(st.tuples(st.integers(0, ENTITIES - 1), COARSE, st.sampled_from([0.0, 1.0])))


def labels_at(rows: list[tuple[int, int, float]]) -> EntityLabels:
    entities, times, frauds = zip(*rows, strict=True) if rows else ((), (), ())
    return EntityLabels(
        np.array(entities, np.int64), np.array(times, np.int64), np.array(frauds, np.float64)
    )


@given(accepted(COARSE), accepted(COARSE), LABELS)
def test_what_is_decided_as_it_is_served_counts_as_if_it_had_been_known(
    past: TransactionColumns, columns: TransactionColumns, rows: list[tuple[int, int, float]]
) -> None:
    """Whatever is late, shares an instant, or matures in between."""
    features, columns, labels = SETS["all"], opened(columns), labels_at(rows)
    memory = features.remember(past, empty(features), EntityLabels.none())
    decided, copied = memory.copy(), memory.copy()
    chosen_N = np.full(len(columns), -1)
    found_NF = features.serve_deciding(columns, decided, labels, deciding(chosen_N))
    assert (chosen_N >= 0).all()
    is_open = columns.standing_N == UNDECIDED
    counted = replace(columns, standing_N=np.where(is_open, chosen_N, columns.standing_N))
    np.testing.assert_array_equal(found_NF, features.serve(counted, copied, labels))
    assert is_same(decided, copied)


@given(accepted(COARSE), accepted(COARSE), st.booleans(), LABELS)
def test_rows_decided_in_one_batch_are_those_decided_one_by_one(
    past: TransactionColumns,
    columns: TransactionColumns,
    late: bool,
    rows: list[tuple[int, int, float]],
) -> None:
    features, labels = SETS["all"], labels_at(rows)
    if late:
        # Late rows of one instant would see each other where they come one by one.
        columns = columns.take(np.unique(columns.time_us_N, return_index=True)[1])
    else:
        past = replace(past, time_us_N=past.time_us_N - DAY_US)
    columns = opened(columns)
    memory = features.remember(past, empty(features), EntityLabels.none())
    together, alone = memory.copy(), memory.copy()
    together_N, alone_N = np.full(len(columns), -1), np.full(len(columns), -1)
    found_NF = features.serve_deciding(columns, together, labels, deciding(together_N))
    waiting_E = np.ones(len(labels.time_us_E), bool)
    for n in np.argsort(columns.time_us_N, kind="stable"):
        row = columns.take([n])
        matured_E = waiting_E & (labels.time_us_E < columns.time_us_N[n])
        waiting_E &= ~matured_E
        decide = deciding(alone_N[n : n + 1])
        [found_F] = features.serve_deciding(row, alone, labels.take(matured_E), decide)
        np.testing.assert_array_equal(found_F, found_NF[n])
    np.testing.assert_array_equal(alone_N, together_N)
    alone = features.remember(columns.take([]), alone, labels.take(waiting_E))
    assert is_same(alone, together)


@pytest.mark.parametrize("name", SPECS)
def test_rows_counted_again_are_as_if_they_had_always_counted_so(name: str) -> None:
    """Late ones too: every other row comes after all others."""
    columns, features = drawn(SPECS[name], seed=4), SETS[name]
    columns = replace(columns, standing_N=np.where(columns.standing_N > TRIED, 0, 1))
    rng, none = np.random.default_rng(4), EntityLabels.none()
    changed = rng.random(ROWS) < 0.3
    standing_N = np.where(changed, rng.integers(0, 3, ROWS), columns.standing_N)
    always = replace(columns, standing_N=standing_N)
    memory, expected = empty(features), empty(features)
    features_NF = np.empty((ROWS, len(features.names)), np.float32)
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        features_NF[rows] = features.serve(columns.take(rows), memory, none)
        features.serve(always.take(rows), expected, none)
    before = memory.copy()
    chosen = rng.permutation(np.flatnonzero(changed))
    features.recount(columns.take(chosen), memory.accounts, standing_N[chosen], features_NF[chosen])
    assert memory.accounts != before.accounts
    for part in ("before_GD", "at_GD"):
        found_GD, expected_GD = (getattr(state.accounts, part) for state in (memory, expected))
        np.testing.assert_allclose(found_GD, expected_GD, rtol=1e-5, atol=1e-5)
    for part in ("time_us_G", "previous_us_G"):
        np.testing.assert_array_equal(
            getattr(memory.accounts, part), getattr(expected.accounts, part)
        )
    for untouched in ("entities", "confirmed"):
        assert getattr(memory, untouched) == getattr(before, untouched)


@pytest.mark.parametrize("other", [None, 10.0])
def test_an_amount_that_no_longer_counts_leaves_nothing_behind(other: float | None) -> None:
    """Whatever rounding leaves of it, in sums that were brought forward many times."""
    features, none = SETS["none"], EntityLabels.none()
    rng = np.random.default_rng(0)
    # By a rate, amounts are larger than any that is posted.
    for size in (1e1, 1e6, 1e9, 1e18):
        for hours in (0.2, 3, 40, 1000):
            # A payment of long ago, or an attempt; four that are counted again; refunds.
            waits = rng.exponential(hours * HOUR_US / 8, 8).astype(int)
            times = [0, *(1100 * HOUR_US + np.cumsum(waits))]
            amounts = [other or 1.0, *(size * rng.random(8))]
            first = TRIED if other is None else SPENT
            rows = rows_of(NONE, times, amounts, standings=[first, *[SPENT] * 4, *[ASIDE] * 4])
            memory, expected = empty(features), empty(features)
            features_NF = features.serve(rows, memory, none)
            again = slice(1, 5)
            tried_N = np.full(4, TRIED)
            features.recount(rows.take(again), memory.accounts, tried_N, features_NF[again])
            rows.standing_N[again] = TRIED
            features.serve(rows, expected, none)
            later = rows_of(NONE, [times[-1] + MINUTE_US], [20.0])
            found_NF, expected_NF = (features.compute(later, each) for each in (memory, expected))
            assert np.isfinite(found_NF).all()
            # Beside 10.00, what is left of a quintillion is no less than its last digits.
            sums = re.compile(r"account_(attempted|mean_amount|amount_ratio)_.*")
            wrong = differing(features, found_NF, expected_NF, absolute=1e-3)
            assert [name for name in wrong if size < 1e18 or not sums.match(name)] == []


def test_what_is_of_the_memory_alone_stays_as_it_is() -> None:
    columns, features = drawn(ALL), SETS["all"]
    labels = labels_of(ALL, columns)
    memory = features.remember(columns, empty(features), labels)
    before = memory.copy()
    features.compute(columns, memory, labels)
    features.remember(columns, memory, labels)
    assert is_same(memory, before)
    features.serve(columns, memory, labels)
    for part in ("accounts", "entities", "confirmed"):
        assert getattr(memory, part) != getattr(before, part)


@pytest.mark.parametrize("field", ["account_N", "entity_NK", "link_NK"])
@pytest.mark.parametrize("position", [-2, LINKS])
def test_rows_of_nobody_who_is_remembered_are_refused(field: str, position: int) -> None:
    columns, features = drawn(ALL), SETS["all"]
    getattr(columns, field)[7] = position
    with pytest.raises(ValueError, match=f"no state at position {position}"):
        features.compute(columns, empty(features))


@pytest.mark.parametrize("field", ["entity_NK", "link_NK"])
def test_an_entity_without_its_link_is_refused(field: str) -> None:
    columns, features = complete(drawn(ALL)), SETS["all"]
    getattr(columns, field)[-1, 1] = -1
    with pytest.raises(ValueError, match="together, or neither"):
        features.compute(columns, empty(features))


@pytest.mark.parametrize("field", ["amount_N", "standing_N", "entity_NK", "link_NK"])
def test_columns_of_different_lengths_are_refused(field: str) -> None:
    columns = drawn(ALL)
    with pytest.raises(ValueError, match="columns differ in length"):
        SETS["all"].compute(replace(columns, **{field: getattr(columns, field)[1:]}))


def test_handbook_transactions_in_batches_have_the_features_of_the_file(
    requires_shared_data: Path,
) -> None:
    """5,000 transactions of the most defrauded merchants, so that histories grow long."""
    spec = DatasetSpec.load("handbook")
    dataset = read_transactions(requires_shared_data, spec)
    columns, features = dataset.columns, FeatureSet(spec)
    assert spec.entity_names == ("merchant",)
    merchant_N = columns.entity_NK[:, 0]
    frauds_M = np.bincount(merchant_N, dataset.is_fraud_N == 1)
    few = np.flatnonzero(np.isin(merchant_N, np.argsort(-frauds_M)[:40]))[:5000]
    columns, merchant_N = columns.take(few), merchant_N[few]
    assert len(columns) == 5000
    labels = EntityLabels(
        merchant_N,
        columns.time_us_N + spec.label.delay_us,
        (dataset.is_fraud_N[few] == 1).astype(np.float64),
    )
    expected_NF = features.compute(columns, None, labels)
    frauds_N = expected_NF[:, features.names.index("merchant_frauds_30d")]
    assert (frauds_N > 0).sum() > 100  # labels do mature within
    served_NF = Service(features, labels).serve(columns, random_sizes(5000, 200, seed=1))
    np.testing.assert_array_equal(served_NF, expected_NF)


def rows_of(
    spec: DatasetSpec,
    time_us: list[int],
    amounts: list[float] | None = None,
    accounts: list[int] | None = None,
    entities: list[int] | None = None,
    standings: list[int] | None = None,
    code: list[int] | None = None,
) -> TransactionColumns:
    """Rows with the same entity of every kind, or none, and the same code in every field."""
    rows, kinds = len(time_us), len(spec.entity_names)
    entity_N = np.array(entities or [-1] * rows)[:, None]
    entity_NK = np.where(entity_N < 0, -1, entity_N + OF_A_KIND * np.arange(kinds))
    columns = TransactionColumns(
        np.array(accounts or [0] * rows),
        entity_NK,
        entity_NK,
        entity_NK,
        np.array(time_us) + FIRST_US,
        np.array(amounts or [10.0] * rows),
        np.array(standings or [SPENT] * rows),
        np.repeat(np.array(code or [0] * rows)[:, None], len(spec.categorical_names), 1),
        np.full((rows, len(spec.numeric_names)), np.nan),
    )
    return linked(columns)


def last_of(spec: DatasetSpec, columns: TransactionColumns) -> dict[str, float]:
    features = FeatureSet(spec)
    return dict(zip(features.names, features.compute(columns)[-1].tolist(), strict=True))


def test_a_quantity_of_two_days_is_what_the_definition_says() -> None:
    """One feature of each kind worked by hand, so that the two ways cannot be wrong together."""
    wednesday_us = 1_700_006_400_000_000 - FIRST_US
    second = last_of(NONE, rows_of(NONE, [wednesday_us, wednesday_us + DAY_US], [9.0, 99.0]))
    expected = {
        "log_amount": np.log(100),
        "hour_sin": 0.0,
        "hour_cos": 1.0,
        "weekend": 0.0,
        "account_gap": np.log1p(86_400),
        "account_attempts_5m": 0.0,
        "account_attempts_1d": np.log1p(0.5),
        "account_attempted_1d": np.log1p(4.5),
        "account_refused_1d": 0.0,
        "account_count_1d": np.log1p(0.5),
        "account_log_amount_mean_1d": np.log(10),
        "account_log_amount_spread_1d": 0.0,
        "account_amount_z_1d": np.log(10) / 0.3 * (0.5 / 1.5),
        "account_mean_amount_1d": np.log1p(9),
        "account_amount_ratio_1d": np.log(10) * (0.5 / 1.5),
        "account_count_120d": np.log1p(2 ** (-1 / 120)),
        "account_hour_habit": 2 ** (-1 / 120) / (2 ** (-1 / 120) + 1),
    }
    assert {name: second[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_attempts_of_an_hour_are_what_the_definition_says() -> None:
    """Three within the hour after a quiet day: one spent, one refused, one without money."""
    minutes = np.array([-1440, 0, 30, 60]) * MINUTE_US
    third = last_of(NONE, rows_of(NONE, minutes.tolist(), standings=[SPENT, REFUSED, TRIED, SPENT]))
    hour = [2.0**-25, 0.5, 2**-0.5]
    # Of one payment before, which followed nothing.
    surprise = np.log1p(sum(hour)) / 0.3
    weight = 2 ** (-25 / 24 / 120)
    expected = {
        "account_gap": np.log1p(1800),
        "account_attempts_5m": np.log1p(2.0**-6 + 2.0**-12),
        "account_attempts_1h": np.log1p(sum(hour)),
        "account_attempted_1h": np.log1p(10 * (hour[0] + hour[1])),
        "account_refused_1h": np.log1p(hour[1]),
        "account_refused_1d": np.log1p(2 ** (-1 / 24)),
        "account_burst_z_1h": surprise * weight / (weight + 1),
        "account_count_1d": np.log1p(2 ** (-25 / 24)),
        "account_log_amount_mean_1d": np.log(11),
    }
    assert {name: third[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_an_entity_of_two_accounts_is_what_the_definition_says() -> None:
    """Account 0 uses it twice, account 1 once; then account 0 again, after an hour each."""
    columns = rows_of(
        ALL,
        [hour * HOUR_US for hour in (0, 1, 2, 3)],
        amounts=[10.0, np.nan, 30.0, 20.0],
        accounts=[0, 0, 1, 0],
        entities=[2, 2, 2, 2],
        standings=[SPENT, ASIDE, REFUSED, SPENT],
    )
    last = last_of(ALL, columns)
    logs = np.log([11, 31])
    hour = np.array([1 / 8, 1 / 2])
    expected = {
        "missing": 0.0,
        "gap": np.log1p(3600),
        "used": 1.0,
        "since": np.log1p(3),
        "count_5m": np.log1p(2.0**-36 + 2.0**-12),
        "count_1h": np.log1p(5 / 8),
        "accounts_1h": np.log1p(5 / 8),
        "accounts_ever": np.log1p(2),
        "log_amount_mean_1h": (logs * hour).sum() / hour.sum(),
        "frauds_6h": 0.0,
    }
    for kind in ALL.entity_names:
        found = {name: last[f"{kind}_{name}"] for name in expected}
        assert found == pytest.approx(expected, abs=1e-5)
        assert last[f"account_new_{kind}_1h"] == pytest.approx(np.log1p(1 / 8))
    # To the other account it is new.
    other = replace(columns, account_N=np.array([0, 0, 1, 2]))
    stranger = last_of(ALL, linked(other))
    assert (stranger["device_used"], stranger["device_since"]) == (0, 0)
    assert stranger["device_accounts_ever"] == pytest.approx(np.log1p(2))
    assert stranger["account_new_device_1h"] == 0


def test_a_late_first_use_is_the_first_and_counted_once() -> None:
    features, none = SETS["all"], EntityLabels.none()
    memory = empty(features)
    hours = [10, 4, 2, 12]
    for hour in hours[:-1]:
        row = rows_of(ALL, [hour * HOUR_US], entities=[2])
        features.serve(row, memory, none)
    [found_F] = features.serve(rows_of(ALL, [12 * HOUR_US], entities=[2]), memory, none)
    last = dict(zip(features.names, found_F.tolist(), strict=True))
    assert last["device_since"] == pytest.approx(np.log1p(12 - 2))
    assert last["device_accounts_ever"] == pytest.approx(np.log1p(1))
    assert last["device_count_30d"] == pytest.approx(
        np.log1p(sum(2 ** (-(12 - hour) / 24 / 30) for hour in hours[:-1]))
    )
    # It was new when it came, not when it was first used.
    assert last["account_new_device_1h"] == pytest.approx(np.log1p(2.0**-2))


def test_values_of_late_are_of_the_last_hours() -> None:
    """Three values, each as often, then silence."""
    minutes = [0, 1, 2, 3, 4, 5]
    codes = [1, 2, 3, 1, 2, 3]

    def after(hours: float) -> dict[str, float]:
        times = [*(minute * MINUTE_US for minute in minutes), int(hours * HOUR_US)]
        return last_of(ALL, rows_of(ALL, times, code=[*codes, 4], standings=[REFUSED] * 7))

    soon, late, never = after(0.1), after(24), after(400)
    assert soon["account_plan_distinct_1h"] == pytest.approx(np.log1p(3 * 6 / 7), abs=0.02)
    assert soon["account_plan_novelty_1h"] == pytest.approx(6 / 7, abs=0.02)
    # What was refused is no habit.
    assert soon["account_plan_novelty"] == 0
    assert 0 < late["account_plan_distinct_1h"] < 1e-5
    assert never["account_plan_distinct_1h"] == never["account_plan_novelty_1h"] == 0


def at_entity(
    label_age_days: list[float], is_fraud: list[bool], memory: bool, kind: str = "merchant"
) -> dict[str, float]:
    """What a transaction sees of an entity with these labels, beside it or in its memory.

    By the features' names without the kind.
    """
    features = SETS["all"]
    row = rows_of(ALL, [0], entities=[0])
    age_us_E = (np.array(label_age_days) * DAY_US).astype(np.int64)
    labels = EntityLabels(
        np.full(len(age_us_E), OF_A_KIND * ALL.entity_names.index(kind)),
        row.time_us_N[0] - age_us_E,
        np.array(is_fraud, np.float64),
    )
    if memory:
        remembered = features.remember(row.take([]), empty(features), labels)
        [found_F] = features.compute(row, remembered)
    else:
        [found_F] = features.compute(row, None, labels)
    found = dict(zip(features.names, found_F.tolist(), strict=True))
    others = [name for other in ALL.entity_names for name in evidence_names(other)]
    assert all(found[name] == 0 for name in others if name not in evidence_names(kind))
    start = f"{kind}_"
    return {name.removeprefix(start): value for name, value in found.items() if start in name}


SHARES = [f"fraud_share_{name}" for name in definition.LABEL_HALF_LIVES]
FRAUDS = [f"frauds_{name}" for name in definition.LABEL_HALF_LIVES]


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("newest", [True, False])
def test_the_newest_label_of_an_entity_is_what_its_6h_share_says(
    newest: bool, memory: bool
) -> None:
    """Ten labels a day apart, the newest unlike all others, and itself some days old."""
    ages = [3.0 + day for day in range(10)]
    found = at_entity(ages, [newest] + [not newest] * 9, memory)
    assert found["fraud_share_6h"] == pytest.approx(float(newest), abs=0.07)
    # The longest half-life still counts them all nearly alike.
    assert found["fraud_share_120d"] == pytest.approx(0.1 if newest else 0.9, abs=0.01)


@pytest.mark.parametrize("kind", ALL.entity_names)
@pytest.mark.parametrize("memory", [False, True])
def test_the_share_of_frauds_is_of_labels_decayed(memory: bool, kind: str) -> None:
    found = at_entity([1.0, 2.0, 3.0], [True, False, True], memory, kind)
    weights = {name: 0.5 ** (np.arange(1, 4) / days) for name, days in (("1d", 1), ("7d", 7))}
    for name, (newest, second, third) in weights.items():
        frauds = newest + third
        share = frauds / (frauds + second)
        assert found[f"fraud_share_{name}"] == pytest.approx(share)
        assert found[f"frauds_{name}"] == pytest.approx(np.log1p(frauds))


@pytest.mark.parametrize("memory", [False, True])
def test_a_label_that_matures_at_this_very_instant_is_not_seen(memory: bool) -> None:
    found = at_entity([0.0, 1.0], [True, False], memory)
    assert found == at_entity([1.0], [False], memory)


def test_late_rows_of_one_instant_do_not_see_each_other() -> None:
    features = SETS["all"]
    columns = rows_of(ALL, [HOUR_US, 0, 0, 0], [10.0, 20.0, 30.0, 40.0], entities=[0] * 4)
    memory = features.remember(columns.take([0]), empty(features), EntityLabels.none())
    late_NF = features.compute(columns.take([1, 2, 3]), memory)
    alone_NF = [features.compute(columns.take([n]), memory)[0] for n in (1, 2, 3)]
    np.testing.assert_array_equal(late_NF, alone_NF)


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("years", [1, 3, 5, 30])
def test_labels_years_old_weigh_nothing_and_break_nothing(years: int, memory: bool) -> None:
    ages = [365.0 * years + day for day in range(5)]
    with np.errstate(all="raise", under="ignore"):
        found = at_entity(ages, [True] * 5, memory)
    assert all(0 <= found[name] <= 1 for name in SHARES)
    assert found["fraud_share_6h"] == 0
    assert all(np.isfinite(found[name]) for name in FRAUDS)
    assert found["frauds_6h"] == found["frauds_1d"] == 0
    # One label of today says more than any number of them.
    fresh = at_entity([0.5, *ages], [False] + [True] * 5, memory)
    assert fresh["fraud_share_6h"] == 0
    assert fresh["fraud_share_30d"] < 0.01


def test_an_entity_without_labels_has_no_share() -> None:
    found = at_entity([], [], memory=False)
    assert [found[name] for name in [*SHARES, *FRAUDS]] == [0.0] * 10


def after_amounts(amounts: list[float], amount: float) -> dict[str, float]:
    """What is seen of a transaction after these, all but at once."""
    return last_of(NONE, rows_of(NONE, list(range(len(amounts) + 1)), [*amounts, amount]))


@pytest.mark.parametrize("span", definition.HABIT_HALF_LIVES)
def test_the_amount_ratio_is_of_the_usual_amount_drawn_to_0_where_few_are_known(
    span: str,
) -> None:
    ratio = f"account_amount_ratio_{span}"
    usual = [10.0, 30.0, 20.0, 20.0]
    logarithm = np.log((1 + 200) / (1 + 20))
    # The surprise of a z-score shrinks as the spread grows; a ratio does not know of it.
    assert after_amounts(usual, 200.0)[ratio] == pytest.approx(logarithm * 4 / 5, rel=1e-5)
    assert after_amounts(usual, 20.0)[ratio] == pytest.approx(0, abs=1e-6)
    assert after_amounts(usual, 2.0)[ratio] == pytest.approx(np.log(3 / 21) * 4 / 5, rel=1e-5)
    assert after_amounts([20.0], 200.0)[ratio] == pytest.approx(logarithm / 2, rel=1e-5)
    assert after_amounts([20.0] * 99, 200.0)[ratio] == pytest.approx(logarithm * 0.99, rel=1e-5)
    assert after_amounts([], 200.0)[ratio] == 0


def test_the_digests_of_the_features_are_the_known_ones() -> None:
    """Golden: a change makes every stored state and every checkpoint useless. Is it meant?"""
    digests = {name: features.digest for name, features in SETS.items()}
    assert digests == {"all": "d50bc17b1c4790a6", "none": "2a8cefec9005a904"}
