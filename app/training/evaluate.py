"""What a learner makes of rows as they would be served, and how good that is.

Axes: A scored rows, E episodes that they are served in, C choices of a gate, J situations that
these are judged in.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_curve

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.decisions import Calibration
from app.learner.differentiable.adaptation import Learner, pad_supports
from app.learner.differentiable.network import Encoded
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US
from app.training.episodes import Episode, Rows, served

EPISODES_AT_ONCE = 512
ROWS_AT_ONCE = 8192
CARDS_A_DAY = 100
LEAST_FRAUDS = 10
# Held-out frauds that choose settings by more than luck; with fewer, a report warns.
DECIDING_FRAUDS = 30
# From following every copy all the way to following none; from heeding no evidence to all of it.
TRUSTS = (6.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -6.0)
HEEDS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
# Numbers of labels by which the gate is judged beside all that are known, on so many rows each.
GATE_LIMITS = (1, 3, 10)
SAMPLED_ROWS = 20_000
GATE_SEED = 0
# The share of what labels gain that a careful gate may cost, and what may be lost by leaving
# payments alone of which they say nothing.
GAIN_FORGONE, REACH_FORGONE = 0.05, 0.02
# How far labels calm payments of which they say nothing: as far as any, or less.
REACHES = (1.0, 0.5, 0.25, 0.0)
# How much it counts there what the account has used before.
HABITS = (0.0, 0.5, 0.75, 1.0)
# How far refusals are not held against what it has used before.
PARDONS = (0.0, 0.5, 1.0)


class GateSetting(NamedTuple):
    """What a gate is set to, see `Gate`."""

    trust: float
    heed: float
    reach: float = 1.0
    habit: float = 0.0
    pardon: float = 0.0


# Where too few frauds are held out to choose: copies are followed unless their evidence is bad.
USUAL_GATE = GateSetting(3.0, 1.0)


class Predictions(NamedTuple):
    """Log-odds of A rows, by the account's copy and by the base, and the labels the copy had."""

    rows: NDArray[np.intp]
    adapted_A: Floats
    base_A: Floats
    labels_A: Ints
    frauds_A: Ints


class Answers(NamedTuple):
    """What was answered about A rows before any gate: log-odds of the base, moves of the copies.

    `evidence_A` is that of the account's labels for its copy (see `Learner.evidence`), `alike_3A`
    how much they have to say of a row (see `alike` there).
    """

    rows: NDArray[np.intp]
    base_A: Floats
    move_A: Floats
    alike_3A: Floats
    evidence_A: Floats
    labels_A: Ints
    frauds_A: Ints


class EncodedRows:
    """Rows encoded once, however many supports and days they belong to."""

    def __init__(self, learner: Learner, rows: Rows, needed: NDArray[np.intp]) -> None:
        device = learner.device
        self._place_N = np.zeros(len(rows.account_N), np.intp)
        self._place_N[needed] = np.arange(len(needed))
        pieces = []
        for first in range(0, len(needed), ROWS_AT_ONCE):
            chosen = needed[first : first + ROWS_AT_ONCE]
            features_1NF = torch.from_numpy(rows.features_NF[chosen])[None].to(device)
            day_1N = torch.from_numpy(rows.time_us_N[chosen] / DAY_US)[None].to(device)
            pieces.append(learner.encode(features_1NF, day_1N))
        self._all = Encoded(*(torch.cat(parts, dim=1)[0] for parts in zip(*pieces, strict=True)))

    def take(self, groups: list[NDArray[np.intp]]) -> Encoded:
        """B groups of rows, padded to the longest with any row."""
        longest = max(len(group) for group in groups)
        place_BN = np.zeros((len(groups), longest), np.intp)
        for b, group in enumerate(groups):
            place_BN[b, : len(group)] = self._place_N[group]
        at = torch.from_numpy(place_BN).to(self._all.day_BN.device)
        return Encoded(*(part[at] for part in self._all))


@torch.inference_mode()
def base_log_odds(learner: Learner, rows: Rows, scored: NDArray[np.intp]) -> Floats:
    """What the learner makes of the scored rows without any label of their accounts: [A]."""
    pieces = [np.zeros(0)]
    for first in range(0, len(scored), ROWS_AT_ONCE):
        chosen = scored[first : first + ROWS_AT_ONCE]
        encoded = EncodedRows(learner, rows, chosen).take([chosen])
        pieces.append(learner.base_logits(encoded)[0].cpu().numpy().astype(np.float64))
    return np.concatenate(pieces)


@torch.inference_mode()
def answers(
    learner: Learner,
    rows: Rows,
    scored: NDArray[np.intp],
    limit: int = SUPPORT_LIMIT,
    with_evidence: bool = True,
) -> Answers:
    """What base and copies make of the scored rows (ascending), with at most `limit` labels each.

    Evidence takes most of the time; where it is not wanted it is 0.
    """
    episodes = list(served(rows, scored, limit))
    if not episodes:
        nothing, none = np.zeros(0), np.zeros(0, np.int64)
        return Answers(scored, nothing, nothing, np.zeros((3, 0)), nothing, none, none)
    needed = np.unique(np.concatenate([scored, *(episode.support for episode in episodes)]))
    encoded = EncodedRows(learner, rows, needed)
    base_A, move_A, evidence_A = (np.zeros(len(scored)) for _ in range(3))
    alike_3A = np.zeros((3, len(scored)))
    for places, group in alike(episodes):
        support = pad_supports([rows.support(e.support) for e in group], len(rows.kinds))
        of_labels = support.to(learner.device), encoded.take([episode.support for episode in group])
        if with_evidence:
            evidence_B, copies = learner.evidence(*of_labels)
        else:
            evidence_B, copies = torch.zeros(len(group)), learner.adapt(*of_labels)
        queries = encoded.take([episode.query for episode in group])
        base_BQ = learner.base_logits(queries)
        move_BQ, alike_3BQ = learner.moves(queries, copies, base_BQ)
        parts = (base_A, base_BQ), (move_A, move_BQ), *zip(alike_3A, alike_3BQ, strict=True)
        for part_A, part_BQ in parts:
            for place, part_Q in zip(places, part_BQ.cpu().numpy(), strict=True):
                part_A[place] = part_Q[: place.stop - place.start]
        for place, evidence in zip(places, evidence_B.tolist(), strict=True):
            evidence_A[place] = evidence
    sizes = [len(episode.query) for episode in episodes]
    labels = [len(episode.support) for episode in episodes]
    frauds = [int((rows.is_fraud_N[episode.support] == 1).sum()) for episode in episodes]
    return Answers(
        scored,
        base_A,
        move_A,
        alike_3A,
        evidence_A,
        np.repeat(np.array(labels, np.int64), sizes),
        np.repeat(np.array(frauds, np.int64), sizes),
    )


def alike(episodes: Sequence[Episode]) -> Iterator[tuple[list[slice], list[Episode]]]:
    """The episodes, at most EPISODES_AT_ONCE together, and where the rows of each are among all.

    Those of like numbers of labels and of rows are together, so that little of a batch is padding.
    """
    sizes = np.array([(len(query), len(support)) for support, query in episodes]).reshape(-1, 2)
    stop_E = np.cumsum(sizes[:, 0])
    order = np.lexsort(sizes.T).tolist()
    for first in range(0, len(order), EPISODES_AT_ONCE):
        some = order[first : first + EPISODES_AT_ONCE]
        places = [slice(int(stop_E[e] - sizes[e, 0]), int(stop_E[e])) for e in some]
        yield places, [episodes[e] for e in some]


def predict(
    learner: Learner, rows: Rows, scored: NDArray[np.intp], limit: int = SUPPORT_LIMIT
) -> Predictions:
    """Score rows (ascending) as served, with at most `limit` labels an account."""
    return gated(learner, answers(learner, rows, scored, limit, bool(learner.gate.heed > 0)))


def gated(learner: Learner, answered: Answers) -> Predictions:
    """The answers as served: each copy followed as far as the learner's gate says."""
    evidence_A = torch.from_numpy(answered.evidence_A).to(learner.device)
    weight_A = learner.gate(evidence_A).cpu().numpy() * (answered.labels_A > 0)
    rows, base_A, move_A, alike_3A, _, labels_A, frauds_A = answered
    moves = (torch.from_numpy(part).to(learner.device) for part in (move_A, alike_3A))
    moved_A = weight_A * learner.gate.reached(*moves).cpu().numpy()
    return Predictions(rows, base_A + moved_A, base_A, labels_A, frauds_A)


def fit_gate(
    learner: Learner, rows: Rows, held_out: NDArray[np.intp], heed: float | None = None
) -> Predictions:
    """Set the learner's gate to what held-out accounts say, and give their predictions.

    A `heed` that is stated is none of their choice: their labels are mostly right, so it is not
    from them that one learns what wrong ones do.

    Of the trusts and heeds that keep all but GAIN_FORGONE of what the best of them gains on the
    base, in cross-entropy, it takes those that heed the evidence most, and among them the least
    trust, so that copies of wrong labels are not followed. They are judged with all labels that are
    known and with few (GATE_LIMITS), J situations, none of which may be worse than the base. Then
    it takes the least reach that keeps all but REACH_FORGONE of what is gained with the gate
    before, and with that the most habit that keeps all but GAIN_FORGONE, so that labels leave
    payments alone that they say nothing of; and with both, by the same rule, the most pardon.
    Where held-out accounts have fewer than DECIDING_FRAUDS frauds these choose nothing, and the
    gate is USUAL_GATE.
    """
    answered = answers(learner, rows, held_out)
    if not answered.labels_A.any():
        return gated(learner, answered)
    if (rows.is_fraud_N[held_out] == 1).sum() < DECIDING_FRAUDS:
        learner.gate.set(USUAL_GATE.trust, USUAL_GATE.heed if heed is None else heed)
        return gated(learner, answered)
    sampled = whole_accounts(rows, held_out, SAMPLED_ROWS)
    judged = [answered, *(answers(learner, rows, sampled, limit) for limit in GATE_LIMITS)]
    situations = [_labelled(rows, of_limit) for of_limit in judged if of_limit.labels_A.any()]
    heeds = HEEDS if heed is None else [heed]
    pairs = [GateSetting(*pair) for pair in product(TRUSTS, heeds)]
    kept = _keeping(learner, situations, pairs)
    chosen = max(kept, key=lambda setting: (setting.heed, -setting.trust))
    reaches = [chosen._replace(reach=reach) for reach in REACHES]
    kept = _keeping(learner, situations, reaches, REACH_FORGONE)
    chosen = min(kept, key=lambda setting: setting.reach)
    habits = [chosen._replace(habit=habit) for habit in HABITS]
    kept = _keeping(learner, situations, habits)
    chosen = max(kept, key=lambda setting: setting.habit)
    pardons = [chosen._replace(pardon=pardon) for pardon in PARDONS]
    kept = _keeping(learner, situations, pardons)
    learner.gate.set(*max(kept, key=lambda setting: setting.pardon))
    return gated(learner, answered)


def _labelled(rows: Rows, answered: Answers) -> tuple[NDArray[np.bool_], Answers]:
    """Of answers those with a label, and which of them are frauds."""
    with_labels = Answers._make(part[..., answered.labels_A > 0] for part in answered)
    return rows.is_fraud_N[with_labels.rows] == 1, with_labels


def _keeping(
    learner: Learner,
    situations: Sequence[tuple[NDArray[np.bool_], Answers]],
    choices: Sequence[GateSetting],
    forgone: float = GAIN_FORGONE,
) -> list[GateSetting]:
    """The gates that keep all but so much of what the best of them gains on the base."""
    base_J = np.array(
        [cross_entropy(is_fraud_A, of.base_A).mean() for is_fraud_A, of in situations]
    )
    loss_JC = np.zeros((len(situations), len(choices)))
    for c, choice in enumerate(choices):
        learner.gate.set(*choice)
        for j, (is_fraud_A, of) in enumerate(situations):
            loss_JC[j, c] = cross_entropy(is_fraud_A, gated(learner, of).adapted_A).mean()
    loss_C = np.where((loss_JC <= base_J[:, None]).all(0), loss_JC.sum(0), np.inf)
    forgone_C = loss_C - loss_C.min()
    kept_C = forgone_C <= forgone * (base_J.sum() - loss_C.min())
    return [choice for choice, is_kept in zip(choices, kept_C, strict=True) if is_kept]


def whole_accounts(rows: Rows, held_out: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Of held-out rows those of as many accounts, at random, as have no more than `most` rows."""
    accounts, account_A = np.unique(rows.account_N[held_out], return_inverse=True)
    order = np.random.default_rng(GATE_SEED).permutation(len(accounts))
    rows_of = np.bincount(account_A)[order]
    chosen = order[: max(1, int((np.cumsum(rows_of) <= most).sum()))]
    return held_out[np.isin(account_A, chosen)]


def average_precision(is_fraud_A: NDArray[np.bool_], score_A: Floats) -> float:
    """Average precision (scikit-learn's); NaN where there is no fraud to find, or nothing else."""
    if not is_fraud_A.any() or is_fraud_A.all():
        return float("nan")
    return float(average_precision_score(is_fraud_A, score_A))


def recall_at_false_positives(
    is_fraud_A: NDArray[np.bool_],
    score_A: Floats,
    rate: float = 0.01,
    weight_A: Floats | None = None,
) -> float:
    """The share of frauds found when at most `rate` of the legitimate rows are flagged.

    Both shares are of the weight of the rows, where they are weighted.
    """
    if not is_fraud_A.any() or is_fraud_A.all():
        return float("nan")
    false_positives, recall, _ = roc_curve(
        is_fraud_A, score_A, sample_weight=weight_A, drop_intermediate=False
    )
    return float(recall[false_positives <= rate].max())


def card_precision(
    account_A: Ints, time_us_A: Ints, is_fraud_A: NDArray[np.bool_], score_A: Floats
) -> float:
    """CP@100: of the 100 accounts that a day ranks highest, the share truly defrauded that day.

    An account counts by its highest score and its highest label of a day; one found this way
    leaves the later days; the mean over the days (Fraud Detection Handbook, chapter 4), NaN where
    there is no fraud to find.
    """
    if not is_fraud_A.any():
        return float("nan")
    found: set[int] = set()
    precisions = []
    for day in np.unique(time_us_A // DAY_US):
        today = np.flatnonzero((time_us_A // DAY_US == day) & ~np.isin(account_A, list(found)))
        accounts, account_of = np.unique(account_A[today], return_inverse=True)
        best, defrauded = np.full(len(accounts), -np.inf), np.zeros(len(accounts), bool)
        np.maximum.at(best, account_of, score_A[today])
        np.logical_or.at(defrauded, account_of, is_fraud_A[today])
        top = np.argsort(-best, kind="stable")[:CARDS_A_DAY]
        hits = accounts[top[defrauded[top]]]
        found.update(hits.tolist())
        precisions.append(len(hits) / CARDS_A_DAY)
    return float(np.mean(precisions))


def calibrate(is_fraud_A: NDArray[np.bool_], logit_A: Floats) -> Calibration:
    """Platt scaling of log-odds at the natural rate; the identity where frauds are too few."""
    if is_fraud_A.sum() < LEAST_FRAUDS or is_fraud_A.all():
        return Calibration(slope=1.0, shift=0.0)
    fitted = LogisticRegression(C=np.inf).fit(logit_A[:, None], is_fraud_A)
    slope = float(fitted.coef_[0, 0])
    if slope <= 0:
        return Calibration(slope=1.0, shift=0.0)
    return Calibration(slope=slope, shift=float(fitted.intercept_[0]))


def cross_entropy(is_fraud_A: NDArray[np.bool_], logit_A: Floats) -> Floats:
    """The loss of each row: [A]."""
    loss_A: Floats = np.logaddexp(0.0, logit_A) - is_fraud_A * logit_A
    return loss_A
