"""Rank within accounts: does a score rank an account's frauds above the account's own payments?

Figures over all rows also reward a score for separating accounts. Here a fraud and a
legitimate row of one account, both scored with a label of it, are a pair; it is in order where
the fraud scores higher, and half in order where both score alike: the area under the account's
own ROC curve (Mann and Whitney, 1947), every pair of every account counting once.

Axes: A tested rows, G groups of one account and score, C accounts with a pair, R draws.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.states import Floats, Ints
from app.training.bootstrap import Draws, Interval, mean_of_known
from app.training.differences import LEAST_DEFRAUDED
from app.training.results import BASE, Metrics, Results


class Pairs(NamedTuple):
    """How many pairs each of C accounts has, and how many are in order (halves for ties)."""

    account_C: Ints
    pairs_C: Floats
    ordered_C: Floats


def pairs_within(account_A: Ints, is_fraud_A: NDArray[np.bool_], score_A: Floats) -> Pairs:
    """The pairs of the accounts that have any, by one sort of all rows."""
    order_A = np.lexsort((score_A, account_A))
    account_A, score_A = account_A[order_A], score_A[order_A]
    is_fraud_A = is_fraud_A[order_A]
    is_first_A = np.ones(len(order_A), np.bool_)
    is_first_A[1:] = (np.diff(account_A) != 0) | (np.diff(score_A) != 0)
    group_A = np.cumsum(is_first_A) - 1
    frauds_G = np.bincount(group_A, is_fraud_A).astype(np.float64)
    legitimate_G = np.bincount(group_A, ~is_fraud_A).astype(np.float64)
    accounts, first_C, account_G = np.unique(
        account_A[is_first_A], return_index=True, return_inverse=True
    )
    # The legitimate rows of the same account that score lower.
    below_G = np.cumsum(legitimate_G) - legitimate_G
    below_G -= below_G[first_C][account_G]
    ordered_C, frauds_C, legitimate_C = (
        np.bincount(account_G, each_G).astype(np.float64)
        for each_G in (frauds_G * (below_G + legitimate_G / 2), frauds_G, legitimate_G)
    )
    pairs_C = frauds_C * legitimate_C
    has_pair_C = pairs_C > 0
    return Pairs(accounts[has_pair_C], pairs_C[has_pair_C], ordered_C[has_pair_C])


def pairs_in_order(folds: Sequence[Results]) -> Metrics:
    """By method the share of pairs in order, and by how much it is above the base's.

    Of rows that were scored with a label. A share is its mean over the folds that have a pair;
    `low` and `high` are the 95 % bootstrap interval of the difference over accounts with a pair,
    NaN for fewer than LEAST_DEFRAUDED of them.
    """
    by_method = {method: [_pairs(fold, method) for fold in folds] for method in folds[0].logits}
    accounts = np.concatenate([pairs.account_C for pairs in by_method[BASE]])
    draws = Draws(accounts)
    shares = {method: _shares(pairs, draws) for method, pairs in by_method.items()}
    methods = {}
    for method, share_R in shares.items():
        lead, low, high = Interval.of(share_R - shares[BASE])
        if len(np.unique(accounts)) < LEAST_DEFRAUDED:
            low = high = float("nan")
        methods[method] = {
            "share": float(share_R[0]),
            "difference": lead,
            "low": low,
            "high": high,
        }
    return {
        "pairs": float(sum(pairs.pairs_C.sum() for pairs in by_method[BASE])),
        "accounts": len(np.unique(accounts)),
        "methods": methods,
    }


def _pairs(tested: Results, method: str) -> Pairs:
    labelled = tested.take(tested.labels_A > 0)
    return pairs_within(labelled.account_A, labelled.is_fraud_A, labelled.logits[method])


def _shares(folds: Sequence[Pairs], draws: Draws) -> Floats:
    """The mean over the folds with a pair of the share in order, for every draw: [R]."""
    shares = []
    for account_C, pairs_C, ordered_C in folds:
        times_CR = draws.times_of(account_C)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares.append((ordered_C @ times_CR) / (pairs_C @ times_CR))
    return mean_of_known(np.stack(shares))
