"""The contract that every feature keeps, whatever the spec, and that serving computes training's.

A feature is finite for any input, sees only what happened strictly before, does not depend on
the order of equal inputs, and takes a missing value as neutral.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.learner import features as definition
from app.learner.features import Features, FeatureSet, Memory, MerchantLabels
from app.learner.spec import DatasetSpec
from app.learner.states import States
from app.learner.transaction import DAY_US, HOUR_US, TransactionColumns
from app.training.dataset import read_transactions
from tests.definition import written_out

ALL = DatasetSpec.model_validate(
    {
        "name": "all",
        "columns": {
            "transaction": "t",
            "account": "a",
            "time": "at",
            "amount": "paid",
            "currency": "currency",
            "merchant": "m",
            "label": "y",
        },
        "label": {"delay_days": 3},
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
EVERY_FEATURE = [(name, feature) for name, one in SETS.items() for feature in one.names]

YEAR_1970_US, YEAR_9999_US = 0, 253_402_300_799_999_999
ROWS = 160


def drawn(spec: DatasetSpec, seed: int = 0, rows: int = ROWS) -> TransactionColumns:
    """Transactions of a few accounts and merchants, with ties and with missing values."""
    rng = np.random.default_rng(seed)
    fields_, numbers = len(spec.categorical_names), len(spec.numeric_names)
    merchant_N = rng.integers(-1, 4, rows) if spec.columns.merchant else np.full(rows, -1)
    code_NC = rng.integers(0, 40, (rows, fields_))
    if spec.columns.merchant:
        code_NC[:, 0] = np.where(merchant_N < 0, 0, merchant_N * 1_000_003 + 7)
    number_NM = rng.normal(0, 10, (rows, numbers))
    number_NM[rng.random((rows, numbers)) < 0.2] = np.nan
    hour_N = np.sort(rng.integers(0, 24 * 60, rows))
    hour_N[1::5] = hour_N[::5][: len(hour_N[1::5])]
    return TransactionColumns(
        rng.integers(0, 5, rows),
        merchant_N,
        1_700_000_000_000_000 + hour_N * HOUR_US,
        np.round(rng.lognormal(3, 1, rows), 2),
        code_NC,
        number_NM,
    )


def labels_of(spec: DatasetSpec, columns: TransactionColumns, seed: int = 0) -> MerchantLabels:
    """Labels of every row with a merchant; they mature after the label delay."""
    is_fraud_N = (np.random.default_rng(seed).random(len(columns)) < 0.3).astype(np.float64)
    at = columns.merchant_N >= 0
    matures_N = columns.time_us_N + spec.label.delay_us
    return MerchantLabels(columns.merchant_N[at], matures_N[at], is_fraud_N[at])


def joined(*parts: TransactionColumns) -> TransactionColumns:
    names = [field.name for field in fields(TransactionColumns)]
    return TransactionColumns(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


def column(name: str, feature: str, features_NF: Features) -> Features:
    return features_NF[:, SETS[name].names.index(feature)]


def hostile(spec: DatasetSpec) -> TransactionColumns:
    """Every extreme amount, time, attribute and category of one account, each with each."""
    times = (YEAR_1970_US, 1_700_000_000_000_000, YEAR_9999_US)
    amounts = (0.0, 1e-9, 10.0, 1e15)
    numbers = (0.0, 1e300, -1e300, 1e-300, np.nan, np.inf, -np.inf)
    grid = np.array(np.meshgrid(times, amounts, numbers, indexing="ij"), dtype=object)
    time_N, amount_N, number_N = grid.reshape(3, -1)
    rows = len(time_N)
    code_N = np.resize([0, 1, 2**24 - 1], rows)
    return TransactionColumns(
        np.zeros(rows, np.int64),
        np.resize([-1, 0], rows) if spec.columns.merchant else np.full(rows, -1),
        time_N.astype(np.int64),
        amount_N.astype(np.float64),
        np.repeat(code_N[:, None], len(spec.categorical_names), 1),
        np.repeat(number_N.astype(np.float64)[:, None], len(spec.numeric_names), 1),
    )


@pytest.fixture(scope="module", params=range(2))
def both_ways(request: pytest.FixtureRequest) -> dict[str, tuple[Features, list[dict[str, float]]]]:
    """The features of rows, and the same rows' as they are written out."""
    found = {}
    for name, spec in SPECS.items():
        columns = drawn(spec, request.param)
        labels = labels_of(spec, columns, request.param)
        wanted = list(written_out(spec, columns, labels))
        found[name] = SETS[name].compute(columns, None, labels), wanted
    return found


@pytest.mark.parametrize(("name", "feature"), EVERY_FEATURE)
def test_a_feature_is_what_its_name_says(
    name: str, feature: str, both_ways: dict[str, tuple[Features, list[dict[str, float]]]]
) -> None:
    features_NF, wanted_N = both_ways[name]
    expected_N = [wanted[feature] for wanted in wanted_N]
    np.testing.assert_allclose(column(name, feature, features_NF), expected_N, 1e-5, 1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_every_feature_is_written_out(
    name: str, both_ways: dict[str, tuple[Features, list[dict[str, float]]]]
) -> None:
    assert all(set(wanted) == set(SETS[name].names) for wanted in both_ways[name][1])


@pytest.fixture(scope="module")
def hostile_features() -> dict[str, Features]:
    """The features of hostile rows: one after another, on hostile memory, and each alone."""
    found = {}
    for name, spec in SPECS.items():
        columns, features = hostile(spec), SETS[name]
        labels = labels_of(spec, columns)
        memory = features.remember(columns, features.empty(1, 1), labels)
        alone = [features.compute(columns.take(np.array([n]))) for n in range(len(columns))]
        found[name] = np.concatenate(
            [
                features.compute(columns, None, labels),
                features.compute(columns, memory, labels),
                *alone,
            ]
        )
    return found


@pytest.mark.parametrize(("name", "feature"), EVERY_FEATURE)
def test_a_feature_is_finite_for_hostile_values(
    name: str, feature: str, hostile_features: dict[str, Features]
) -> None:
    assert np.isfinite(column(name, feature, hostile_features[name])).all()


AMOUNTS = st.sampled_from([0.0, 1e-8, 999_999_999_999_999.9]) | st.floats(0, 1e15)
INSTANTS = st.sampled_from([YEAR_1970_US, YEAR_9999_US]) | st.integers(YEAR_1970_US, YEAR_9999_US)
NUMBERS = st.floats() | st.sampled_from([np.nan, np.inf, -1e300, 5e-324])
CODES = st.sampled_from([0, 1, 2**24 - 1]) | st.integers(0, 2**24 - 1)


@st.composite
def accepted(draw: st.DrawFn) -> TransactionColumns:
    """Anything that could be accepted, of two accounts and two merchants."""
    rows = draw(st.integers(1, 12))

    def many(values: st.SearchStrategy[Any], width: int = 1) -> np.ndarray:
        drawn_N = draw(st.lists(values, min_size=rows * width, max_size=rows * width))
        return np.array(drawn_N).reshape(rows, width)

    fields_, numbers = len(ALL.categorical_names), len(ALL.numeric_names)
    return TransactionColumns(
        many(st.integers(0, 1))[:, 0],
        many(st.integers(-1, 1))[:, 0],
        many(INSTANTS)[:, 0].astype(np.int64),
        many(AMOUNTS)[:, 0].astype(np.float64),
        many(CODES, fields_).astype(np.int64),
        many(NUMBERS, numbers).astype(np.float64),
    )


@given(accepted(), accepted(), st.randoms(use_true_random=False))
def test_features_of_anything_accepted_are_finite_whatever_came_before_in_whatever_order(
    past: TransactionColumns, columns: TransactionColumns, random: Any
) -> None:
    features = SETS["all"]
    labels = labels_of(ALL, past)
    memory = features.remember(past, features.empty(2, 2), labels)
    order_N = np.array(random.sample(range(len(columns)), len(columns)))
    found_NF = features.compute(columns, memory, labels)
    assert np.isfinite(found_NF).all()
    assert np.isfinite(features.compute(joined(past, columns), None, labels)).all()
    other_NF = features.compute(columns.take(order_N), memory, labels)
    np.testing.assert_allclose(other_NF, found_NF[order_N], rtol=1e-4, atol=1e-4)
    for states in (memory.accounts, memory.merchants, memory.confirmed):
        assert all(np.isfinite(sums).all() for sums in (states.before_GD, states.at_GD))


@pytest.fixture(scope="module")
def before_and_after() -> dict[str, tuple[Features, Features]]:
    """Features of rows, and of the same rows when what is simultaneous or later is another.

    The second file has other amounts, merchants, categories and attributes from the middle
    instant on, more rows of that instant and later, and other labels that mature from then on.
    """
    found = {}
    for name, spec in SPECS.items():
        columns, features = drawn(spec), SETS[name]
        middle_us = columns.time_us_N[ROWS // 2]
        past = columns.time_us_N < middle_us
        labels = labels_of(spec, columns)
        early = labels.time_us_E < middle_us
        others = replace(drawn(spec, seed=1), time_us_N=np.maximum(columns.time_us_N, middle_us))
        changed = joined(columns.take(past), others)
        changed_labels = MerchantLabels(
            labels.merchant_E,
            np.where(early, labels.time_us_E, middle_us),
            np.where(early, labels.is_fraud_E, 1.0),
        )
        # The same questions, asked at the middle instant after either past.
        asked = replace(drawn(spec, seed=2, rows=20), time_us_N=np.full(20, middle_us))
        known = np.concatenate([np.flatnonzero(past), np.arange(ROWS, ROWS + 20)])
        one_NF = features.compute(joined(columns, asked), None, labels)[known]
        size = past.sum()
        known = np.concatenate([np.arange(size), np.arange(len(changed), len(changed) + 20)])
        other_NF = features.compute(joined(changed, asked), None, changed_labels)[known]
        found[name] = one_NF, other_NF
    return found


@pytest.mark.parametrize(("name", "feature"), EVERY_FEATURE)
def test_a_feature_sees_only_what_was_strictly_before(
    name: str, feature: str, before_and_after: dict[str, tuple[Features, Features]]
) -> None:
    one_N, other_N = (column(name, feature, each) for each in before_and_after[name])
    np.testing.assert_allclose(other_N, one_N, atol=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_the_features_do_see_what_was_before(name: str) -> None:
    # So that the test above is not passed by features that see nothing.
    columns, features = drawn(SPECS[name]), SETS[name]
    labels = labels_of(SPECS[name], columns)
    seen_NF = features.compute(columns, None, labels)
    alone_NF = np.concatenate([features.compute(columns.take([n])) for n in range(ROWS)])
    differs_F = (np.abs(seen_NF - alone_NF) > 1e-3).any(0)
    past = [
        f.startswith(("account_", "merchant_")) and not f.endswith("_code") for f in features.names
    ]
    assert differs_F.tolist() == past


@pytest.fixture(scope="module")
def shuffled() -> dict[str, tuple[Features, Features]]:
    """Features of rows and labels, and of the same in another order, put back."""
    found = {}
    for name, spec in SPECS.items():
        columns, features = drawn(spec), SETS[name]
        labels = labels_of(spec, columns)
        rng = np.random.default_rng(3)
        order_N, order_E = rng.permutation(ROWS), rng.permutation(len(labels.time_us_E))
        mixed = MerchantLabels(
            labels.merchant_E[order_E], labels.time_us_E[order_E], labels.is_fraud_E[order_E]
        )
        other_NF = np.empty((ROWS, len(features.names)), np.float32)
        other_NF[order_N] = features.compute(columns.take(order_N), None, mixed)
        found[name] = features.compute(columns, None, labels), other_NF
    return found


@pytest.mark.parametrize(("name", "feature"), EVERY_FEATURE)
def test_the_order_of_the_inputs_changes_no_feature(
    name: str, feature: str, shuffled: dict[str, tuple[Features, Features]]
) -> None:
    one_N, other_N = (column(name, feature, each) for each in shuffled[name])
    np.testing.assert_allclose(other_N, one_N, atol=1e-6)


def without(columns: TransactionColumns, spec: DatasetSpec, field: str) -> TransactionColumns:
    """The last row says nothing of one field."""
    last = np.arange(len(columns)) == len(columns) - 1
    if field in spec.numeric_names:
        number_NM = columns.numeric_NM.copy()
        number_NM[last, spec.numeric_names.index(field)] = np.nan
        return replace(columns, numeric_NM=number_NM)
    code_NC = columns.categorical_NC.copy()
    code_NC[last, spec.categorical_names.index(field)] = 0
    columns = replace(columns, categorical_NC=code_NC)
    if field == "merchant_id":
        columns = replace(columns, merchant_N=np.where(last, -1, columns.merchant_N))
    return columns


def comparing(spec: DatasetSpec, field: str) -> list[str]:
    """The features that set a field against the past."""
    if field in spec.numeric_names:
        return [f"attribute_{field}", f"account_{field}_z"]
    own = [] if field == "merchant_id" else [f"{field}_code"]
    merchant = [name for name in FeatureSet(spec).names if name.startswith("merchant_")]
    of_merchant = [name for name in merchant if not name.startswith("merchant_category")]
    return [*own, f"account_{field}_novelty", *(of_merchant if field == "merchant_id" else [])]


@pytest.mark.parametrize("field", [*ALL.categorical_names, *ALL.numeric_names])
def test_a_missing_value_is_neutral(field: str) -> None:
    features, columns = SETS["all"], drawn(ALL)
    # The row that goes without has all else.
    columns.categorical_NC[-1] = 5
    columns.merchant_N[-1] = 1
    columns.numeric_NM[-1] = 3.5
    labels = labels_of(ALL, columns)
    full_F = features.compute(columns, None, labels)[-1]
    without_F = features.compute(without(columns, ALL, field), None, labels)[-1]
    told = comparing(ALL, field)
    for name, whole, lacking in zip(features.names, full_F, without_F, strict=True):
        if name in told:
            assert lacking == 0.0, name
        elif name == f"attribute_{field}_missing":
            assert (whole, lacking) == (0.0, 1.0)
        else:
            assert lacking == whole, name
    assert any(full_F[features.names.index(name)] != 0 for name in told)


@pytest.mark.parametrize("field", [*ALL.categorical_names, *ALL.numeric_names])
def test_a_missing_value_leaves_no_trace_in_what_later_rows_compare(field: str) -> None:
    features, columns = SETS["all"], drawn(ALL)
    columns.categorical_NC[-1], columns.merchant_N[-1], columns.numeric_NM[-1] = 5, 1, 3.5
    lacking = without(columns, ALL, field)
    later = replace(columns.take([-1]), time_us_N=columns.time_us_N[-1:] + HOUR_US)
    # As if the row had been there for all but this field.
    told = comparing(ALL, field)
    earlier = columns.take(np.arange(ROWS - 1))
    compared = [f for f in told if f.startswith("account_")]
    seen_F = features.compute(joined(lacking, later))[-1]
    unseen_F = features.compute(joined(earlier, later))[-1]
    for name in compared:
        at = features.names.index(name)
        np.testing.assert_allclose(seen_F[at], unseen_F[at], atol=0.02)


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


def test_the_digest_changes_with_the_names() -> None:
    another = FeatureSet(spec_with(numeric={"age": "age"}))
    assert len({SETS["all"].digest, SETS["none"].digest, another.digest}) == 3


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("DEFINITION", -1),
        ("HALF_LIVES_DAYS", (1, 7, 30, 121)),
        ("LABEL_HALF_LIVES_DAYS", definition.LABEL_HALF_LIVES_DAYS | {"6h": 0.5}),
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


def served(
    features: FeatureSet,
    columns: TransactionColumns,
    labels: MerchantLabels,
    sizes: list[int],
) -> Features:
    """What serving computes: batch by batch on stored states, labels folded as they mature.

    The rows are sorted by time. Entities get other codes in every batch, as in the service.
    """
    accounts: dict[int, bytes] = {}
    merchants: dict[int, tuple[bytes, bytes]] = {}
    waiting_E = np.ones(len(labels.time_us_E), bool)
    order_E = np.argsort(labels.merchant_E, kind="stable")
    sorted_E = labels.merchant_E[order_E]
    rows, first = [], 0
    for size in sizes:
        batch = columns.take(slice(first, first + size))
        first += size
        known_a, account_N = np.unique(batch.account_N, return_inverse=True)
        known_m, place_N = np.unique(batch.merchant_N, return_inverse=True)
        has_none = len(known_m) > 0 and known_m[0] < 0
        known_m, merchant_N = known_m[int(has_none) :], place_N - int(has_none)
        newest_us = np.zeros(len(known_m), np.int64)
        at = merchant_N >= 0
        np.maximum.at(newest_us, merchant_N[at], batch.time_us_N[at])
        ripe, of = [], []
        for g, merchant in enumerate(known_m):
            mine = order_E[slice(*np.searchsorted(sorted_E, [merchant, merchant + 1]))]
            mine = mine[waiting_E[mine] & (labels.time_us_E[mine] < newest_us[g])]
            ripe += mine.tolist()
            of += [g] * len(mine)
        waiting_E[ripe] = False
        matured = MerchantLabels(
            np.array(of, np.int64), labels.time_us_E[ripe], labels.is_fraud_E[ripe]
        )
        pairs = [merchants.get(m, (None, None)) for m in known_m.tolist()]
        memory = Memory(
            States.from_bytes([accounts.get(a) for a in known_a.tolist()], features.account_sums),
            States.from_bytes([pair[0] for pair in pairs], features.merchant_sums),
            States.from_bytes([pair[1] for pair in pairs], features.confirmed_sums),
        )
        batch = replace(batch, account_N=account_N, merchant_N=merchant_N)
        rows.append(features.compute(batch, memory, matured))
        after = features.remember(batch, memory, matured)
        for g, account in enumerate(known_a.tolist()):
            accounts[account] = after.accounts.to_bytes()[g]
        for g, merchant in enumerate(known_m.tolist()):
            merchants[merchant] = after.merchants.to_bytes()[g], after.confirmed.to_bytes()[g]
    assert first >= len(columns)
    return np.concatenate(rows)


def random_sizes(rows: int, most: int, seed: int) -> list[int]:
    sizes = np.random.default_rng(seed).integers(1, most + 1, rows)
    return sizes[: int(np.searchsorted(np.cumsum(sizes), rows)) + 1].tolist()


@settings(max_examples=25)
@given(st.sampled_from(sorted(SPECS)), st.integers(0, 1000), st.sampled_from([1, 7, 50, ROWS]))
def test_batches_on_stored_states_have_the_features_of_the_file(
    name: str, seed: int, most: int
) -> None:
    columns, features = drawn(SPECS[name], seed), SETS[name]
    columns = columns.take(np.argsort(columns.time_us_N, kind="stable"))
    labels = labels_of(SPECS[name], columns, seed)
    served_NF = served(features, columns, labels, random_sizes(ROWS, most, seed))
    np.testing.assert_array_equal(served_NF, features.compute(columns, None, labels))


@pytest.mark.parametrize("name", SPECS)
def test_late_rows_one_by_one_have_the_features_and_states_of_a_batch(name: str) -> None:
    """They see the sums as they stood before the newest event, with what was added since."""
    columns, features = drawn(SPECS[name]), SETS[name]
    times_N = np.unique(columns.time_us_N, return_index=True)[1]
    early, late = columns.take(times_N[::2]), columns.take(times_N[1::2])
    none = MerchantLabels.none()
    memory = features.remember(early, features.empty(5, 4), none)
    together, alone = memory.copy(), memory.copy()
    together_NF = features.serve(late, together, none)
    alone_NF = [features.serve(late.take([n]), alone, none)[0] for n in range(len(late))]
    np.testing.assert_array_equal(alone_NF, together_NF)
    assert alone == together
    # Late they are: in the order of time they would have seen more.
    assert (features.compute(joined(early, late))[len(early) :] != together_NF).any()


def test_what_is_of_the_memory_alone_stays_as_it_is() -> None:
    columns, features = drawn(ALL), SETS["all"]
    labels = labels_of(ALL, columns)
    memory = features.remember(columns, features.empty(5, 4), labels)
    before = memory.copy()
    features.compute(columns, memory, labels)
    features.remember(columns, memory, labels)
    assert memory == before
    features.serve(columns, memory, labels)
    assert memory != before


@pytest.mark.parametrize("field", ["account_N", "merchant_N"])
@pytest.mark.parametrize("position", [-2, 5])
def test_rows_of_nobody_who_is_remembered_are_refused(field: str, position: int) -> None:
    columns, features = drawn(ALL), SETS["all"]
    getattr(columns, field)[7] = position
    with pytest.raises(ValueError, match=f"no state at position {position}"):
        features.compute(columns, features.empty(5, 5))


def test_columns_of_different_lengths_are_refused() -> None:
    columns = drawn(ALL)
    with pytest.raises(ValueError, match="columns differ in length"):
        SETS["all"].compute(replace(columns, amount_N=columns.amount_N[1:]))


def test_handbook_transactions_in_batches_have_the_features_of_the_file(
    requires_shared_data: Path,
) -> None:
    """5,000 transactions of the most defrauded merchants, so that histories grow long."""
    spec = DatasetSpec.load("handbook")
    dataset = read_transactions(requires_shared_data, spec)
    columns, features = dataset.columns, FeatureSet(spec)
    frauds_M = np.bincount(columns.merchant_N, dataset.is_fraud_N == 1)
    few = np.flatnonzero(np.isin(columns.merchant_N, np.argsort(-frauds_M)[:40]))[:5000]
    columns = columns.take(few)
    assert len(columns) == 5000
    labels = MerchantLabels(
        columns.merchant_N,
        columns.time_us_N + spec.label.delay_us,
        (dataset.is_fraud_N[few] == 1).astype(np.float64),
    )
    expected_NF = features.compute(columns, None, labels)
    frauds_N = expected_NF[:, features.names.index("merchant_frauds_30d")]
    assert (frauds_N > 0).sum() > 100  # labels do mature within
    served_NF = served(features, columns, labels, random_sizes(5000, 200, seed=1))
    np.testing.assert_array_equal(served_NF, expected_NF)


def test_a_quantity_of_two_days_is_what_the_definition_says() -> None:
    """One feature of each kind worked by hand, so that the two ways cannot be wrong together."""
    day = 1_700_006_400_000_000 // DAY_US  # a Wednesday
    at_us = np.array([0, DAY_US]) + day * DAY_US
    one = TransactionColumns(
        np.zeros(2, np.int64),
        np.full(2, -1),
        at_us,
        np.array([9.0, 99.0]),
        np.zeros((2, 0), np.int64),
        np.zeros((2, 0)),
    )
    second = dict(zip(SETS["none"].names, SETS["none"].compute(one)[1].tolist(), strict=True))
    expected = {
        "log_amount": np.log(100),
        "hour_sin": 0.0,
        "hour_cos": 1.0,
        "weekend": 0.0,
        "account_gap": np.log1p(24),
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


def merchant_asked(
    label_age_days: list[float], is_fraud: list[bool], memory: bool
) -> dict[str, float]:
    """What a transaction is told of a merchant with these labels, beside it or in its memory."""
    features, asked = SETS["all"], drawn(ALL, rows=1)
    asked.merchant_N[:] = 0
    age_us_E = (np.array(label_age_days) * DAY_US).astype(np.int64)
    labels = MerchantLabels(
        np.zeros(len(age_us_E), np.int64),
        asked.time_us_N[0] - age_us_E,
        np.array(is_fraud, np.float64),
    )
    if memory:
        remembered = features.remember(asked.take([]), features.empty(5, 1), labels)
        [found_F] = features.compute(asked, remembered)
    else:
        [found_F] = features.compute(asked, None, labels)
    return dict(zip(features.names, found_F.tolist(), strict=True))


SHARES = [f"merchant_fraud_share_{name}" for name in definition.LABEL_HALF_LIVES_DAYS]
FRAUDS = [f"merchant_frauds_{name}" for name in definition.LABEL_HALF_LIVES_DAYS]


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("newest", [True, False])
def test_the_newest_label_of_a_merchant_is_what_its_6h_share_says(
    newest: bool, memory: bool
) -> None:
    """Ten labels a day apart, the newest unlike all others, and itself some days old."""
    ages = [3.0 + day for day in range(10)]
    told = merchant_asked(ages, [newest] + [not newest] * 9, memory)
    assert told["merchant_fraud_share_6h"] == pytest.approx(float(newest), abs=0.07)
    # The longest half-life still counts them all nearly alike.
    assert told["merchant_fraud_share_120d"] == pytest.approx(0.1 if newest else 0.9, abs=0.01)


@pytest.mark.parametrize("memory", [False, True])
def test_the_share_of_frauds_is_of_labels_decayed(memory: bool) -> None:
    told = merchant_asked([1.0, 2.0, 3.0], [True, False, True], memory)
    weights = {name: 0.5 ** (np.arange(1, 4) / days) for name, days in (("1d", 1), ("7d", 7))}
    for name, (newest, second, third) in weights.items():
        frauds = newest + third
        share = frauds / (frauds + second)
        assert told[f"merchant_fraud_share_{name}"] == pytest.approx(share)
        assert told[f"merchant_frauds_{name}"] == pytest.approx(np.log1p(frauds))


@pytest.mark.parametrize("memory", [False, True])
def test_a_label_that_matures_at_this_very_instant_is_not_seen(memory: bool) -> None:
    told = merchant_asked([0.0, 1.0], [True, False], memory)
    assert told == merchant_asked([1.0], [False], memory)


def test_late_rows_of_one_instant_do_not_see_each_other() -> None:
    features, columns = SETS["all"], drawn(ALL, rows=4)
    for column_N, value in ((columns.account_N, 0), (columns.merchant_N, 0)):
        column_N[:] = value
    columns.time_us_N[:] = 1_700_000_000_000_000 + np.array([HOUR_US, 0, 0, 0])
    memory = features.remember(columns.take([0]), features.empty(1, 1), MerchantLabels.none())
    late_NF = features.compute(columns.take([1, 2, 3]), memory)
    alone_NF = [features.compute(columns.take([n]), memory)[0] for n in (1, 2, 3)]
    np.testing.assert_array_equal(late_NF, alone_NF)


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("years", [1, 3, 5, 30])
def test_labels_years_old_weigh_nothing_and_break_nothing(years: int, memory: bool) -> None:
    ages = [365.0 * years + day for day in range(5)]
    with np.errstate(all="raise", under="ignore"):
        told = merchant_asked(ages, [True] * 5, memory)
    assert all(0 <= told[name] <= 1 for name in SHARES)
    assert told["merchant_fraud_share_6h"] == 0
    assert all(np.isfinite(told[name]) for name in FRAUDS)
    assert told["merchant_frauds_6h"] == told["merchant_frauds_1d"] == 0
    # One label of today says more than any number of them.
    fresh = merchant_asked([0.5, *ages], [False] + [True] * 5, memory)
    assert fresh["merchant_fraud_share_6h"] == 0
    assert fresh["merchant_fraud_share_30d"] < 0.01


def test_a_merchant_without_labels_has_no_share() -> None:
    told = merchant_asked([], [], memory=False)
    assert [told[name] for name in [*SHARES, *FRAUDS]] == [0.0] * 10


def account_asked(amounts: list[float], asked: float) -> dict[str, float]:
    """What is told of a transaction after these, all but at once."""
    rows = len(amounts) + 1
    columns = TransactionColumns(
        np.zeros(rows, np.int64),
        np.full(rows, -1),
        1_700_000_000_000_000 + np.arange(rows),
        np.array([*amounts, asked]),
        np.zeros((rows, 0), np.int64),
        np.zeros((rows, 0)),
    )
    features = SETS["none"]
    return dict(zip(features.names, features.compute(columns)[-1].tolist(), strict=True))


@pytest.mark.parametrize("days", definition.HALF_LIVES_DAYS)
def test_the_amount_ratio_is_of_the_usual_amount_drawn_to_0_where_few_are_known(
    days: int,
) -> None:
    ratio = f"account_amount_ratio_{days}d"
    usual = [10.0, 30.0, 20.0, 20.0]
    logarithm = np.log((1 + 200) / (1 + 20))
    # The surprise of a z-score shrinks as the spread grows; a ratio does not know of it.
    assert account_asked(usual, 200.0)[ratio] == pytest.approx(logarithm * 4 / 5, rel=1e-5)
    assert account_asked(usual, 20.0)[ratio] == pytest.approx(0, abs=1e-6)
    assert account_asked(usual, 2.0)[ratio] == pytest.approx(np.log(3 / 21) * 4 / 5, rel=1e-5)
    assert account_asked([20.0], 200.0)[ratio] == pytest.approx(logarithm / 2, rel=1e-5)
    assert account_asked([20.0] * 99, 200.0)[ratio] == pytest.approx(logarithm * 0.99, rel=1e-5)
    assert account_asked([], 200.0)[ratio] == 0


def test_the_digests_of_the_features_are_the_known_ones() -> None:
    """Golden: a change makes every stored state and every checkpoint useless. Is it meant?"""
    digests = {name: one.digest for name, one in SETS.items()}
    assert digests == {"all": "180ff71ef42165e2", "none": "547149ad806729c0"}
