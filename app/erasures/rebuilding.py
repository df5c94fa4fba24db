"""The sums of entities, made anew from payments as they would be had others never come."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from app.entities.states import EntityKey
from app.learner.columns import columns_of
from app.learner.features import EntityLabels, FeatureSet, Memory
from app.learner.states import NEVER_US, Ints, States
from app.learner.transaction import NO_ENTITY, TransactionColumns, transaction_of
from app.scoring.records import Arrived

# A link of before any payment.
LONG_USED_US = NEVER_US + 1


class Rebuilding:
    """The states of some entities, from payments in any order.

    An account counts as a new one at the payment that came first, which may not be its oldest:
    so first uses are added last, when all payments are known.
    """

    def __init__(self, features: FeatureSet, keys: Sequence[EntityKey]) -> None:
        self._features = features
        self._position = {key: g for g, key in enumerate(keys)}
        self._memory = features.empty(0, len(keys), 0)
        # When each account's first payment to come to an entity had come, and when it occurred.
        self._first: dict[tuple[int, str], tuple[int, int]] = {}

    def add(self, payments: Sequence[Arrived]) -> None:
        """Add what these payments are to their entities, but for first uses."""
        features = self._features
        transactions = [transaction_of(payment.content) for payment in payments]
        columns, named = columns_of(features.spec, transactions, features.rates)
        # The last place is that of no entity.
        wanted_G = [self._position.get(key, NO_ENTITY) for key in named.entities]
        entity_NK = np.array([*wanted_G, NO_ENTITY], np.int64)[columns.entity_NK]
        link_NK = np.where(entity_NK == NO_ENTITY, NO_ENTITY, columns.link_NK)
        for n, k in np.argwhere(entity_NK != NO_ENTITY).tolist():
            key = int(entity_NK[n, k]), transactions[n].account_id
            came = payments[n].computed_at_us, transactions[n].occurred_at_us
            self._first[key] = min(came, self._first.get(key, came))
        self._serve(
            replace(columns, entity_NK=entity_NK, link_NK=link_NK),
            len(named.accounts),
            np.full(len(named.links), LONG_USED_US),
        )

    def states(self) -> Mapping[EntityKey, bytes | None]:
        """The states, None where there was no payment; nothing can be added any more."""
        self._add_first_uses()
        time_us_G, states = self._memory.entities.time_us_G, self._memory.entities.to_bytes()
        return {
            key: None if time_us_G[g] == NEVER_US else states[g]
            for key, g in self._position.items()
        }

    def _add_first_uses(self) -> None:
        """As rows that are nothing else."""
        names, rows = self._features.spec.entity_names, len(self._first)
        if not rows:
            return
        kinds = [names.index(kind) for kind, _ in self._position]
        entity_N = np.array([entity for entity, _ in self._first], np.int64)
        at = np.arange(rows), np.array(kinds, np.int64)[entity_N]
        occurred_us_N = np.array([occurred_us for _, occurred_us in self._first.values()], np.int64)
        # No sum has an identity in it.
        columns = replace(self._features.blank(rows), time_us_N=occurred_us_N)
        columns.entity_NK[at], columns.link_NK[at] = entity_N, np.arange(rows)
        self._serve(columns, 1, np.full(rows, NEVER_US))

    def _serve(self, columns: TransactionColumns, accounts: int, first_use_us_L: Ints) -> None:
        if not len(columns):
            return
        memory = Memory(
            States.empty(accounts, self._features.account_sums),
            self._memory.entities,
            self._memory.confirmed,
            first_use_us_L,
        )
        self._features.serve(columns, memory, EntityLabels.none())
