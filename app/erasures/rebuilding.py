"""The sums of entities, made anew from payments as they would be had others never come."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.entities.states import EntityKey, LinkKey
from app.learner.columns import columns_of
from app.learner.features import EntityLabels, FeatureSet, Memory
from app.learner.states import NEVER_US, Ints, States
from app.learner.transaction import NO_ENTITY, TransactionColumns, transaction_of
from app.scoring.records import Arrived

# A link of before any payment.
LONG_USED_US = NEVER_US + 1
# Before the state of a remainder: when the first of its payments had come, and when it occurred.
_FIRST = struct.Struct("<qq")


class Remainder(NamedTuple):
    """What an account's payments that are gone were to an entity, but for its first use."""

    key: LinkKey
    packed: bytes

    @property
    def first(self) -> tuple[int, int]:
        """When the first of them had come, and when it occurred."""
        came_us, occurred_us = _FIRST.unpack_from(self.packed)
        return came_us, occurred_us

    @property
    def state(self) -> bytes:
        return self.packed[_FIRST.size :]


class _Sums:
    """Sums of payments in any order, by entity or by link, but for first uses.

    An account counts as a new one at the payment that came first, which may not be its oldest:
    so first uses are known when all payments are.
    """

    def __init__(
        self,
        features: FeatureSet,
        keys: Sequence[EntityKey] | Sequence[LinkKey],
        remainders: Sequence[Remainder] = (),
    ) -> None:
        self.features = features
        self.position: dict[tuple[str, ...], int] = {key: g for g, key in enumerate(keys)}
        # Of a link its entity has two, and the link itself three.
        self._parts = len(keys[0]) if keys else 0
        self.memory = features.empty(0, len(keys), 0)
        # When each account's first payment to come to an entity had come, and when it occurred.
        self.first: dict[tuple[int, str], tuple[int, int]] = {}
        if remainders:
            self._add_remainders(remainders)

    def _add_remainders(self, remainders: Sequence[Remainder]) -> None:
        places = [self._place(row.key) for row in remainders]
        states = States.from_bytes([row.state for row in remainders], self.features.entity_sums)
        entities = self.features.gather(self.memory.entities, np.array(places, np.int64), states)
        self.memory = replace(self.memory, entities=entities)
        for place, row in zip(places, remainders, strict=True):
            self._note_first(place, row.key[2], row.first)

    def _place(self, link: LinkKey) -> int:
        return self.position.get(link[: self._parts], NO_ENTITY)

    def _note_first(self, place: int, account_id: str, came: tuple[int, int]) -> None:
        key = place, account_id
        self.first[key] = min(came, self.first.get(key, came))

    def add(self, payments: Sequence[Arrived]) -> None:
        """Add what these payments are to their entities, but for first uses."""
        features = self.features
        transactions = [transaction_of(payment.content) for payment in payments]
        columns, named = columns_of(features.spec, transactions, features.rates)
        # The last place is that of no entity.
        wanted_L = [*map(self._place, named.links), NO_ENTITY]
        entity_NK = np.array(wanted_L, np.int64)[columns.link_NK]
        link_NK = np.where(entity_NK == NO_ENTITY, NO_ENTITY, columns.link_NK)
        for n, k in np.argwhere(entity_NK != NO_ENTITY).tolist():
            came = payments[n].computed_at_us, transactions[n].occurred_at_us
            self._note_first(int(entity_NK[n, k]), transactions[n].account_id, came)
        self.serve(
            replace(columns, entity_NK=entity_NK, link_NK=link_NK),
            len(named.accounts),
            np.full(len(named.links), LONG_USED_US),
        )

    def serve(self, columns: TransactionColumns, accounts: int, first_use_us_L: Ints) -> None:
        if not len(columns):
            return
        memory = Memory(
            States.empty(accounts, self.features.account_sums),
            self.memory.entities,
            self.memory.confirmed,
            first_use_us_L,
        )
        self.features.serve(columns, memory, EntityLabels.none())


class Rebuilding:
    """The states of some entities, from payments in any order and from what is left of others."""

    def __init__(
        self,
        features: FeatureSet,
        keys: Sequence[EntityKey],
        remainders: Sequence[Remainder] = (),
    ) -> None:
        self._keys = keys
        self._sums = _Sums(features, keys, remainders)

    def add(self, payments: Sequence[Arrived]) -> None:
        """Add what these payments are to their entities, but for first uses."""
        self._sums.add(payments)

    def states(self) -> Mapping[EntityKey, bytes | None]:
        """The states, None where there was no payment; nothing can be added any more."""
        self._add_first_uses()
        entities = self._sums.memory.entities
        time_us_G, states = entities.time_us_G, entities.to_bytes()
        return {
            key: None if time_us_G[g] == NEVER_US else states[g] for g, key in enumerate(self._keys)
        }

    def _add_first_uses(self) -> None:
        """As rows that are nothing else."""
        features, first = self._sums.features, self._sums.first
        names, rows = features.spec.entity_names, len(first)
        if not rows:
            return
        kinds = [names.index(kind) for kind, _ in self._keys]
        entity_N = np.array([entity for entity, _ in first], np.int64)
        at = np.arange(rows), np.array(kinds, np.int64)[entity_N]
        occurred_us_N = np.array([occurred_us for _, occurred_us in first.values()], np.int64)
        # No sum has an identity in it.
        columns = replace(features.blank(rows), time_us_N=occurred_us_N)
        columns.entity_NK[at], columns.link_NK[at] = entity_N, np.arange(rows)
        self._sums.serve(columns, 1, np.full(rows, NEVER_US))


def remainders_with(
    features: FeatureSet,
    keys: Sequence[LinkKey],
    payments: Sequence[Arrived],
    before: Sequence[Remainder],
) -> list[Remainder]:
    """What payments are to these links, which are all that they have, with what was left before."""
    sums = _Sums(features, keys, before)
    sums.add(payments)
    return [
        Remainder(key, _FIRST.pack(*sums.first[g, key[2]]) + state)
        for g, (key, state) in enumerate(zip(keys, sums.memory.entities.to_bytes(), strict=True))
    ]
