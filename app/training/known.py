"""Which labels of its account a row sees, found without walking through the account's past.

A label is seen by the account's rows from the moment it is known, and only by rows that are
strictly younger than the labelled one.

Axes: N rows, A rows that see labels, L labelled rows, G groups (the legitimate labels of an
account, then its frauds), C checkpoints, K rows of a checkpoint.
"""

import numpy as np
from numpy.typing import NDArray

from app.learner.adaptation import SUPPORT_LIMIT, select_support
from app.learner.states import Ints
from app.training.dataset import UNLABELLED


class KnownLabels:
    """The labels of N rows (sorted by account and time), by account, class and first sight.

    After every SUPPORT_LIMIT labels of a group that came into sight, a checkpoint keeps the
    newest SUPPORT_LIMIT rows of all so far. What a row sees lies among the rows of one checkpoint
    and the fewer than SUPPORT_LIMIT labels since, however many labels the account has; an account
    of n labels takes O(log n) to search and O(n) memory.
    """

    def __init__(
        self, account_N: Ints, time_us_N: Ints, is_fraud_N: NDArray[np.int8], known_at_us_N: Ints
    ) -> None:
        self._is_fraud_N = is_fraud_N
        row_L = np.flatnonzero(is_fraud_N != UNLABELLED)
        # A row of the same instant must not see the label, so sight begins a microsecond later.
        seen_us_L = np.maximum(known_at_us_N[row_L], time_us_N[row_L] + 1)
        group_L = 2 * account_N[row_L] + (is_fraud_N[row_L] == 1)
        order_L = np.lexsort((seen_us_L, group_L))
        self._row_L, self._seen_us_L = row_L[order_L], seen_us_L[order_L]
        groups = 2 * (int(account_N.max(initial=-1)) + 1)
        self._first_G = np.searchsorted(group_L[order_L], np.arange(groups + 1))
        checkpoints_G = np.diff(self._first_G) // SUPPORT_LIMIT
        self._checkpoint_G = np.concatenate([[0], np.cumsum(checkpoints_G)])
        self._newest_CK = np.empty((self._checkpoint_G[-1], SUPPORT_LIMIT), np.intp)
        for group in np.flatnonzero(checkpoints_G).tolist():
            self._keep_newest(group)

    def _keep_newest(self, group: int) -> None:
        """Fill in the checkpoints of a group, each from the one before it."""
        newest_K = self._row_L[:0]
        first = self._first_G[group]
        for checkpoint in range(self._checkpoint_G[group], self._checkpoint_G[group + 1]):
            both = np.concatenate([newest_K, self._row_L[first : first + SUPPORT_LIMIT]])
            both.sort()
            newest_K = both[-SUPPORT_LIMIT:]
            self._newest_CK[checkpoint] = newest_K
            first += SUPPORT_LIMIT

    def support(self, account: int, now_us: int, limit: int) -> NDArray[np.intp]:
        """The labelled rows that a row of the account at that time learns from, newest first.

        They are at most `limit`, chosen by `select_support`. Raises ValueError for a limit beyond
        SUPPORT_LIMIT.
        """
        if limit > SUPPORT_LIMIT:
            raise ValueError(
                f"a support has at most {SUPPORT_LIMIT} labels: ask for no more than that"
            )
        parts = []
        for group in (2 * account, 2 * account + 1):
            first, stop = self._first_G[group], self._first_G[group + 1]
            seen = int(np.searchsorted(self._seen_us_L[first:stop], now_us, "right"))
            checkpoints = seen // SUPPORT_LIMIT
            parts.append(self._row_L[first + checkpoints * SUPPORT_LIMIT : first + seen])
            if checkpoints:
                parts.append(self._newest_CK[self._checkpoint_G[group] + checkpoints - 1])
        rows = np.concatenate(parts)
        rows.sort()
        rows = rows[::-1]
        support: NDArray[np.intp] = rows[select_support(self._is_fraud_N[rows] == 1, limit)]
        return support

    def seen(self, account_A: Ints, time_us_A: Ints) -> Ints:
        """How many labels of their own and of earlier accounts A rows see: [A].

        Of two rows of one account the later sees a label more exactly where this number differs.
        """
        account_L = np.repeat(np.arange(len(self._first_G) - 1) // 2, np.diff(self._first_G))
        labels = len(account_L)
        # Labels come before the rows of their first sight, which see them.
        is_row = np.repeat([False, True], [labels, len(account_A)])
        order = np.lexsort(
            (
                is_row,
                np.concatenate([self._seen_us_L, time_us_A]),
                np.concatenate([account_L, account_A]),
            )
        )
        seen_A = np.empty(len(account_A), np.int64)
        is_row_sorted = is_row[order]
        seen_A[order[is_row_sorted] - labels] = np.cumsum(~is_row_sorted)[is_row_sorted]
        return seen_A
