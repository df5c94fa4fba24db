"""What labels since removed were to stored features: as if each row were worked out by itself."""

import time
from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np
import pytest

from app.labels.evidence import evidence_without, with_evidence
from app.labels.records import LabelChange, Witness
from app.learner.features import EntityLabels, FeatureSet
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US

FEATURES = FeatureSet(DatasetSpec.load("simulated"))
NOTHING = np.zeros(len(FEATURES.names), "<f4").tobytes()


def history(
    random: np.random.Generator, size: int, days: float
) -> tuple[list[Witness], list[LabelChange]]:
    """Payments at two merchants by three devices, and changes of their labels in any order, some of
    one instant."""
    at_us = np.sort(random.uniform(0, days, size).round(1)) * DAY_US
    witnesses = [
        Witness(f"t-{n}", "a", *key, int(at_us[n]), int(at_us[n]), False)
        for n in range(size)
        for key in entities_of(n)
    ]
    changes = []
    for n in range(size):
        recorded_us = at_us[n]
        for _ in range(1 + int(random.integers(3))):
            recorded_us += int(random.exponential(20) * DAY_US)
            is_removal = bool(changes) and changes[-1].transaction_id == f"t-{n}"
            fraud = None if is_removal and random.random() < 0.3 else bool(random.random() < 0.4)
            matures_us = int(at_us[n] + random.choice([1, 14, 30]) * DAY_US)
            changes += [
                LabelChange(*key, f"t-{n}", "a", 0, fraud, matures_us, int(recorded_us))
                for key in entities_of(n)
            ]
    return witnesses, sorted(changes, key=lambda change: change.recorded_at_us)


def entities_of(n: int) -> list[tuple[str, str]]:
    device = [("device", f"d-{n % 3}")] if n % 5 else []
    return [("merchant", f"m-{n % 2}"), *device]


def corrected_features(
    witnesses: list[Witness],
    changes: list[LabelChange],
    gone: Collection[str] = (),
    latest: bytes = NOTHING,
    as_of: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, bytes]:
    """Those of the witnesses, all of which have the same features before."""
    found = evidence_without(FEATURES, witnesses, changes, gone, as_of)
    return with_evidence(FEATURES, found, {row.transaction_id: latest for row in witnesses})


def one_by_one(
    witnesses: list[Witness],
    changes: list[LabelChange],
    gone: set[str],
    latest: bytes = NOTHING,
    left: list[LabelChange] | None = None,
) -> dict[str, bytes]:
    """The same by the definition: for each row, all there is.

    `left` are the changes that no rollback came back from.
    """
    found: dict[str, bytes] = {}
    for row in witnesses:
        seen, has_lost = [], False
        own = [change for change in changes if change.key == row.key]
        for key in dict.fromkeys(change.transaction_id for change in own):
            of_it = [change for change in own if change.transaction_id == key]
            was = seen_of(row, of_it)
            if left is not None:
                own_left = [change for change in left if change.key == row.key]
                of_it = [change for change in own_left if change.transaction_id == key]
            now = seen_of(row, of_it)
            is_lost = key in gone or any(
                change.is_fraud is None and change.recorded_at_us >= row.computed_at_us
                for change in of_it
            )
            seen += [now] if now and not is_lost else []
            facts = (now.is_fraud, now.matures_at_us) if now and not is_lost else None
            has_lost |= (was and (was.is_fraud, was.matures_at_us)) != facts
        if has_lost:
            labels = EntityLabels(
                np.zeros(len(seen), np.int64),
                np.array([label.matures_at_us for label in seen], np.int64),
                np.array([bool(label.is_fraud) for label in seen], np.float64),
            )
            known_F = found.get(row.transaction_id, latest)
            features_F = np.frombuffer(known_F, "<f4").copy()
            at_us = np.array([row.occurred_at_us], np.int64)
            its = FEATURES.evidence[row.kind]
            features_F[its] = FEATURES.confirmed(row.kind, at_us, labels)[0]
            found[row.transaction_id] = features_F.tobytes()
    return found


def seen_of(row: Witness, of_label: list[LabelChange]) -> LabelChange | None:
    """What a row saw of a label, by its changes."""
    before = [change for change in of_label if change.recorded_at_us < row.computed_at_us]
    if not before or before[-1].is_fraud is None:
        return None
    return before[-1] if before[-1].matures_at_us < row.occurred_at_us else None


def with_rollbacks(
    random: np.random.Generator, changes: list[LabelChange]
) -> tuple[list[LabelChange], list[list[LabelChange]]]:
    """The changes as revisions of one account with rollbacks between them; and by revision, those
    that no rollback had come back from."""
    made: list[LabelChange] = []
    left: list[list[LabelChange]] = [[]]
    for change in changes:
        own = change._replace(revision=len(left))
        made.append(own)
        left.append([*left[-1], own])
        if random.random() < 0.1:
            as_of = int(random.integers(len(left)))
            then, now = labels_after(left[as_of]), labels_after(left[-1])
            facts = {"revision": len(left), "as_of": as_of, "recorded_at_us": own.recorded_at_us}
            for key, label in now.items():
                found = then.get(key, label._replace(is_fraud=None))
                if found != label:
                    made.append(found._replace(**facts))
            left.append(left[as_of])
    return made, left


def labels_after(changes: list[LabelChange]) -> dict[tuple[str, str, str], LabelChange]:
    return {(*change.key, change.transaction_id): change for change in changes}


@pytest.mark.parametrize("seed", range(12))
def test_what_a_rollback_came_back_from_never_was(seed: int) -> None:
    random = np.random.default_rng(seed)
    witnesses, changes = history(random, 60, 200)
    made, left = with_rollbacks(random, changes)
    gone = {f"t-{n}" for n in range(len(witnesses)) if random.random() < 0.1}
    expected = one_by_one(witnesses, made, gone, left=left[-1])
    assert corrected_features(witnesses, made, gone) == expected
    assert len(expected) > 20
    # And before one is made: as if it had been.
    as_of = len(left) // 2
    planned = corrected_features(witnesses, made, as_of={"a": as_of})
    assert planned == one_by_one(witnesses, made, set(), left=left[as_of])


@pytest.mark.parametrize("seed", range(12))
def test_all_rows_together_are_each_row_by_itself(seed: int) -> None:
    random = np.random.default_rng(seed)
    witnesses, changes = history(random, int(random.integers(1, 120)), 200)
    gone = {f"t-{n}" for n in range(len(witnesses)) if random.random() < 0.1}
    expected = one_by_one(witnesses, changes, gone)
    assert corrected_features(witnesses, changes, gone) == expected
    assert len(expected) > 0 or len(witnesses) < 20


def test_what_is_not_in_question_stays_as_it_was_corrected() -> None:
    """The devices of witnesses alone, after their merchants were corrected."""
    witnesses, changes = history(np.random.default_rng(3), 60, 200)
    random_F = np.random.default_rng(4).normal(size=len(FEATURES.names)).astype("<f4")
    devices = [witness for witness in witnesses if witness.kind == "device"]
    gone = {witness.transaction_id for witness in witnesses[::7]}
    found = corrected_features(devices, changes, gone, random_F.tobytes())
    assert found == one_by_one(devices, changes, gone, random_F.tobytes())
    others = [f for f in range(len(random_F)) if f not in FEATURES.evidence["device"]]
    for features in found.values():
        np.testing.assert_array_equal(np.frombuffer(features, "<f4")[others], random_F[others])
    assert found


def test_rows_that_were_corrected_are_corrected_again() -> None:
    witnesses, changes = history(np.random.default_rng(5), 40, 100)
    changes = [change for change in changes if change.is_fraud is not None]
    corrected = [row._replace(is_corrected=row.transaction_id == "t-39") for row in witnesses]
    assert corrected_features(witnesses, changes) == {}
    assert list(corrected_features(corrected, changes)) == ["t-39"]


def test_what_says_a_label_again_changes_nothing_to_the_bit() -> None:
    """Corrections of before they were marked, in whatever order the database has them."""
    random = np.random.default_rng(6)
    witnesses, changes = history(random, 100, 200)
    by_label: dict[tuple[str, str, str], list[LabelChange]] = {}
    for revision, change in enumerate(changes):
        own = by_label.setdefault((*change.key, change.transaction_id), [])
        own.append(change._replace(revision=2 * revision))
    again = []
    for own in by_label.values():
        for change, following in zip(own, [*own[1:], None], strict=True):
            until_us = following.recorded_at_us if following else 400 * DAY_US
            at_us = int(random.integers(change.recorded_at_us, until_us + 1))
            again.append(change._replace(recorded_at_us=at_us, revision=change.revision + 1))
    all_of_them = [*(change for own in by_label.values() for change in own), *again]
    mixed = [all_of_them[n] for n in random.permutation(len(all_of_them))]
    gone = {row.transaction_id for row in witnesses[::9]}
    expected = corrected_features(witnesses, changes, gone)
    assert corrected_features(witnesses, mixed, gone) == expected
    assert len(expected) > 20


@pytest.mark.alone
def test_four_times_the_labels_take_about_four_times_as_long() -> None:
    seconds = []
    for size in (4_000, 16_000):
        witnesses, changes = history(np.random.default_rng(0), size, 300)
        gone = {"t-0", "t-1"}
        took = []
        for _ in range(3):
            begun = time.perf_counter()
            corrected_features(witnesses, changes, gone)
            took.append(time.perf_counter() - begun)
        seconds.append(min(took))
    # Twice as many rows that each look at all labels would take sixteen times as long.
    assert seconds[1] < 8 * seconds[0]
