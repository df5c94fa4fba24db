"""Every feature by its name, written out: row by row, over all that came before, slowly.

What the kernel computes is compared with this, name by name: nothing here is shared with it but
the constants of the definition.

Rows arrive in batches. A row sees those of earlier batches, and the earlier ones of its own, as
they stood before the newest event of its account (or entity, or of its labels): for most rows that
is their own; a late one sees what was there before it came.

Axes: N rows, K kinds of entities, P rows of the past, E label events.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.features import EntityLabels
from app.learner.kernels.features import BUCKETS, LEAST_SPREAD
from app.learner.spec import DatasetSpec
from app.learner.states import Floats, Ints
from app.learner.transaction import (
    ASIDE,
    DAY_US,
    HOUR_US,
    REFUSED,
    SECOND_US,
    SPENT,
    TRIED,
    UNDECIDED,
    TransactionColumns,
)

Truths = NDArray[np.bool_]
Found = Iterator[tuple[str, float]]

SPANS_US = {
    "5m": HOUR_US / 12,
    "1h": HOUR_US,
    "6h": 6 * HOUR_US,
    **{f"{days}d": days * DAY_US for days in (1, 7, 30, 120)},
    "ever": np.inf,
}
RECENT = ("5m", "1h", "1d")
HABITS = ("1d", "7d", "30d", "120d")
LABELS = ("6h", "1d", "7d", "30d", "120d")
LONGEST_GAP_US = 365 * DAY_US
# A mean of so little is drawn to 0.
LEAST_COUNT = 1e-9


class Past(NamedTuple):
    """The rows of an account or an entity that a row sees, and their ages."""

    row_P: Ints
    age_us_P: Ints

    def only(self, chosen_N: Truths) -> "Past":
        at_P = chosen_N[self.row_P]
        return Past(self.row_P[at_P], self.age_us_P[at_P])

    def weights(self, span: str) -> Floats:
        return halved(self.age_us_P, span)

    def count(self, span: str) -> float:
        return float(self.weights(span).sum())


class Written:
    """Rows and labels as they arrive, all in one batch unless stated otherwise."""

    def __init__(
        self,
        spec: DatasetSpec,
        columns: TransactionColumns,
        labels: EntityLabels,
        batch_N: Ints | None = None,
        label_batch_E: Ints | None = None,
    ) -> None:
        rows, events = len(columns), len(labels.time_us_E)
        self.spec, self.columns, self.labels = spec, columns, labels
        self.batch_N = np.zeros(rows, np.int64) if batch_N is None else batch_N
        none_E = np.zeros(events, np.int64)
        self.label_batch_E = none_E if label_batch_E is None else label_batch_E
        self.order_N = np.lexsort((np.arange(rows), columns.time_us_N, self.batch_N))
        self.rank_N = np.argsort(self.order_N)
        standing_N = columns.standing_N
        self.is_attempt_N = np.isin(standing_N, (SPENT, REFUSED, TRIED))
        self.is_use_N = self.is_attempt_N | (standing_N == UNDECIDED)
        assert (self.is_use_N != (standing_N == ASIDE)).all()
        self.is_priced_N = ~np.isnan(columns.amount_N)
        self.is_first_use_NK = np.zeros(columns.entity_NK.shape, bool)
        links = set[tuple[int, int]]()
        for n in self.order_N.tolist():
            for k, entity in enumerate(columns.entity_NK[n].tolist()):
                link = entity, int(columns.account_N[n])
                self.is_first_use_NK[n, k] = entity >= 0 and link not in links
                links.add(link)
        # Of each row, the attempts of its account just before it was added.
        self.busy_N = {
            span: np.array([self.busy(n, span) for n in range(rows)]) for span in ("5m", "1h")
        }

    def all(self) -> Iterator[dict[str, float]]:
        """The features of each row."""
        for n in range(len(self.columns)):
            found = dict(self.itself(n)) | dict(self.of_account(n))
            for k, kind in enumerate(self.spec.entity_names):
                of_entity = dict(self.of_entity(n, k)) | dict(self.of_labels(n, k))
                if self.columns.entity_NK[n, k] < 0:
                    of_entity = dict.fromkeys(of_entity, 0.0) | {"missing": 1.0}
                found |= {f"{kind}_{name}": value for name, value in of_entity.items()}
            yield found

    def has_seen(self, n: int) -> Truths:
        earlier_N = self.columns.time_us_N < self.columns.time_us_N[n]
        batch = self.batch_N[n]
        return (self.batch_N < batch) | (self.batch_N == batch) & earlier_N

    def past(self, n: int, seen_N: Truths) -> Past:
        """Of the rows that it has seen, those before its own time and the newest one's."""
        time_us_N = self.columns.time_us_N
        now_us = time_us_N[seen_N].max(initial=time_us_N[n])
        row_P = np.flatnonzero(seen_N & (time_us_N < now_us))
        return Past(row_P, now_us - time_us_N[row_P])

    def busy(self, n: int, span: str) -> float:
        seen_N = (self.rank_N < self.rank_N[n]) & (
            self.columns.account_N == self.columns.account_N[n]
        )
        return float(np.log1p(self.past(n, seen_N).only(self.is_attempt_N).count(span)))

    def itself(self, n: int) -> Found:
        columns, spec = self.columns, self.spec
        time_us = int(columns.time_us_N[n])
        angle = 2 * np.pi * (time_us % DAY_US) / DAY_US
        yield "log_amount", np.log(1 + columns.amount_N[n]) if self.is_priced_N[n] else 0.0
        yield "amount_missing", float(not self.is_priced_N[n])
        yield "hour_sin", np.sin(angle)
        yield "hour_cos", np.cos(angle)
        # 1970 began on a Thursday, the fourth day of a week.
        yield "weekend", float((time_us // DAY_US + 3) % 7 in (5, 6))
        for m, name in enumerate(spec.numeric_names):
            number = columns.numeric_NM[n, m]
            yield f"attribute_{name}", np.arcsinh(number) if np.isfinite(number) else 0.0
            yield f"attribute_{name}_missing", float(not np.isfinite(number))
        for c, name in enumerate(spec.categorical_names):
            yield f"{name}_code", float(columns.categorical_NC[n, c])

    def of_account(self, n: int) -> Found:
        columns = self.columns
        mine_N = self.has_seen(n) & (columns.account_N == columns.account_N[n])
        past = self.past(n, mine_N)
        attempts = past.only(self.is_attempt_N)
        spent = past.only(columns.standing_N == SPENT)
        yield "account_gap", self.gap(n, past)
        with_money = attempts.only((columns.standing_N != TRIED) & self.is_priced_N)
        refused = attempts.only(columns.standing_N == REFUSED)
        for span in RECENT:
            money_P = columns.amount_N[with_money.row_P] * with_money.weights(span)
            yield f"account_attempts_{span}", np.log1p(attempts.count(span))
            yield f"account_attempted_{span}", np.log1p(money_P.sum())
            yield f"account_refused_{span}", np.log1p(refused.count(span))
        for span, busy_N in self.busy_N.items():
            now, busy_P = np.log1p(attempts.count(span)), busy_N[spent.row_P]
            yield f"account_burst_z_{span}", z(now, busy_P, spent.weights("120d"))
        yield from self.of_habits(n, spent)
        for c, name in enumerate(self.spec.categorical_names):
            code_N = columns.categorical_NC[:, c]
            yield f"account_{name}_novelty", novelty(code_N, n, spent, "120d")
            yield f"account_{name}_novelty_1h", novelty(code_N, n, attempts, "1h")
            yield f"account_{name}_distinct_1h", np.log1p(distinct(code_N, attempts, "1h"))
        for k, kind in enumerate(self.spec.entity_names):
            new = past.only(self.is_first_use_NK[:, k])
            for span in ("1h", "1d", "120d"):
                yield f"account_new_{kind}_{span}", np.log1p(new.count(span))

    def of_habits(self, n: int, spent: Past) -> Found:
        columns = self.columns
        priced = spent.only(self.is_priced_N)
        amount_P, amount = columns.amount_N[priced.row_P], columns.amount_N[n]
        for span in HABITS:
            weight_P = priced.weights(span)
            past = np.log1p(amount_P), weight_P
            log_usual = np.log1p(mean(amount_P, weight_P))
            trust = weight_P.sum() / (weight_P.sum() + 1)
            ratio = (np.log1p(amount) - log_usual) * trust
            yield f"account_count_{span}", np.log1p(spent.count(span))
            yield f"account_log_amount_mean_{span}", mean(*past)
            yield f"account_log_amount_spread_{span}", spread(*past)
            yield f"account_amount_z_{span}", z(np.log1p(amount), *past)
            yield f"account_mean_amount_{span}", log_usual
            yield f"account_amount_ratio_{span}", ratio if self.is_priced_N[n] else 0.0
        weight_P, time_us_N = spent.weights("120d"), columns.time_us_N
        angle_P = 2 * np.pi * ((time_us_N[spent.row_P] - time_us_N[n]) % DAY_US) / DAY_US
        yield "account_hour_habit", (weight_P * np.cos(angle_P)).sum() / (weight_P.sum() + 1)
        for m, name in enumerate(self.spec.numeric_names):
            number_N = np.where(np.isfinite(columns.numeric_NM[:, m]), columns.numeric_NM[:, m], 0)
            there_N = np.isfinite(columns.numeric_NM[:, m])
            valued = spent.only(there_N)
            scaled_P = np.arcsinh(number_N[valued.row_P])
            surprise = z(np.arcsinh(number_N[n]), scaled_P, valued.weights("120d"))
            yield f"account_{name}_z", surprise if there_N[n] else 0.0

    def of_entity(self, n: int, k: int) -> Found:
        columns = self.columns
        at_N = self.has_seen(n) & (columns.entity_NK[:, k] == columns.entity_NK[n, k])
        past = self.past(n, at_N)
        uses, new = past.only(self.is_use_N), past.only(self.is_first_use_NK[:, k])
        mine_N = at_N & (columns.account_N == columns.account_N[n])
        age_us = columns.time_us_N[n] - columns.time_us_N[mine_N].min(initial=2**62)
        yield "identity", float(columns.entity_code_NK[n, k])
        yield "missing", 0.0
        yield "gap", self.gap(n, past)
        yield "used", float(age_us > 0)
        yield "since", np.log1p(age_us / HOUR_US) if age_us > 0 else 0.0
        for span in ("5m", "1h", "1d", "30d"):
            yield f"count_{span}", np.log1p(uses.count(span))
        for span in ("1h", "1d", "30d", "ever"):
            yield f"accounts_{span}", np.log1p(new.count(span))
        priced = uses.only(self.is_priced_N)
        log_amount_P = np.log1p(columns.amount_N[priced.row_P])
        for span in ("1h", "30d"):
            amounts = log_amount_P, priced.weights(span)
            yield f"log_amount_mean_{span}", mean(*amounts)
            yield f"amount_z_{span}", z(np.log1p(columns.amount_N[n]), *amounts)

    def of_labels(self, n: int, k: int) -> Found:
        time_us, time_us_E = self.columns.time_us_N[n], self.labels.time_us_E
        batch = self.batch_N[n]
        there_E = self.label_batch_E < batch
        there_E |= (self.label_batch_E == batch) & (time_us_E < time_us)
        there_E &= self.labels.entity_E == self.columns.entity_NK[n, k]
        now_us = time_us_E[there_E].max(initial=time_us)
        known_E = there_E & (time_us_E < now_us)
        is_fraud_P = self.labels.is_fraud_E[known_E]
        for span in LABELS:
            weight_P = halved(now_us - time_us_E[known_E], span)
            # However little they weigh: a share is of what there is.
            share = np.average(is_fraud_P, weights=weight_P) if len(weight_P) else 0.0
            yield f"fraud_share_{span}", share
            yield f"frauds_{span}", np.log1p((weight_P * is_fraud_P).sum())

    def gap(self, n: int, past: Past) -> float:
        newest_us = self.columns.time_us_N[past.row_P].max(initial=-(2**61))
        age_us = np.clip(self.columns.time_us_N[n] - newest_us, 0, LONGEST_GAP_US)
        return float(np.log1p(age_us / SECOND_US))


def novelty(code_N: Ints, n: int, past: Past, span: str) -> float:
    """How much of the past that names a value names another (of another bucket)."""
    there = past.only(code_N != 0)
    other = there.only(code_N % BUCKETS != code_N[n] % BUCKETS)
    return other.count(span) / (there.count(span) + 1) if code_N[n] else 0.0


def distinct(code_N: Ints, past: Past, span: str) -> float:
    """How many values there are (Hill's number of order 2), drawn to 0 where little is of late."""
    there = past.only(code_N != 0)
    counts = [there.only(code_N % BUCKETS == bucket).count(span) for bucket in range(BUCKETS)]
    whole, squares = sum(counts), sum(count**2 for count in counts)
    return whole**2 / squares * whole / (whole + 1) if squares > 0 else 0.0


def halved(age_us_P: Ints, span: str) -> Floats:
    weight_P: Floats = 0.5 ** (age_us_P / SPANS_US[span])
    return weight_P


def mean(value_P: Floats, weight_P: Floats) -> float:
    return float((value_P * weight_P).sum() / max(weight_P.sum(), LEAST_COUNT))


def spread(value_P: Floats, weight_P: Floats) -> float:
    if not weight_P.sum() > 0:
        return 0.0
    centred_P = value_P - np.average(value_P, weights=weight_P)
    drawn = weight_P.sum() / max(weight_P.sum(), LEAST_COUNT)
    return float(np.sqrt(np.average(centred_P**2, weights=weight_P)) * drawn)


def z(value: float, value_P: Floats, weight_P: Floats) -> float:
    """How far from the mean, in spreads (LEAST_SPREAD and more), drawn to 0 where few are known.

    Of no value at all it is 0.
    """
    distance = (value - mean(value_P, weight_P)) / np.hypot(spread(value_P, weight_P), LEAST_SPREAD)
    drawn = float(distance * weight_P.sum() / (weight_P.sum() + 1))
    return 0.0 if np.isnan(value) else drawn
