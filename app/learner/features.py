"""The features of transactions, for training and for serving alike.

What each of them is stands in `kernels/features.pyx`: a feature sees the transaction itself and the
decayed sums of its account and its entities over what happened strictly before it (`states.py`).
Over a whole file with an empty memory this is training; over a batch with a stored memory it is
serving.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.learner.kernels.features import (
    BUCKETS,
    CODE,
    ENTITY_HALF_LIVES,
    HABIT_HALF_LIVES,
    IDENTITY,
    LABEL_HALF_LIVES,
    LEAST_SPREAD,
    RECENT_HALF_LIVES,
    Walk,
    account_names,
    entity_names,
    gather,
    sums_of,
    transaction_names,
)
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.states import NEVER_US, Floats, Ints, States
from app.learner.transaction import ASIDE, MISSING, NO_ENTITY, UNDECIDED, TransactionColumns

# Part of the digest: raise it whenever the same name comes to mean another number.
DEFINITION = 4

Features = NDArray[np.float32]
RISES_WITH_AMOUNT = re.compile(r"log_amount|\w+_amount_(z|ratio)_\d+[mhd]")
OF_PACE = re.compile(
    r"account_(attempts|attempted)_\d+[mhd]|(?!account_)\w+_(count|accounts)_(5m|1h|1d)"
)
OF_REFUSALS = re.compile(r"account_refused_\d+[mhd]")
# Whether an account has used an entity before.
USED = "_used"
Kind = Literal["own", "code", "history", "amount", "pace", "refused", "identity", "used"]


@dataclass(frozen=True, slots=True)
class EntityLabels:
    """E labels that become evidence about an entity at `time_us_E` (their maturity)."""

    entity_E: Ints
    time_us_E: Ints
    is_fraud_E: Floats

    @classmethod
    def none(cls) -> "EntityLabels":
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    def take(self, chosen: NDArray[np.bool_]) -> "EntityLabels":
        return EntityLabels(self.entity_E[chosen], self.time_us_E[chosen], self.is_fraud_E[chosen])


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of the accounts and entities of a batch, and of L pairs of them.

    `first_use_us_L` is when an account first used an entity, NEVER_US where it has not.
    """

    accounts: States
    entities: States
    confirmed: States  # of the same entities: their matured labels
    first_use_us_L: Ints

    def copy(self) -> "Memory":
        """Another of the same content: what is added to it leaves this one as it is."""
        return Memory(
            self.accounts.copy(),
            self.entities.copy(),
            self.confirmed.copy(),
            self.first_use_us_L.copy(),
        )


class FeatureSet:
    """The features that a spec gives, in a fixed order, and the sums they need.

    `names` [F] and `digest` identify the definition; `kinds` [F] says of each feature whether it is
    a category's `code`, an entity's `identity`, a quantity of the transaction itself (`own`), or
    one that already compares it with the past of its account or an entity (`history`), among them
    what rises with the amount, all else equal (`amount`), what counts attempts of late (`pace`),
    and those that were refused (`refused`), and whether the account has used an entity before
    (`used`, behind its identity); `account_sums`, `entity_sums` and `confirmed_sums` are the widths
    D of the three kinds of state; by `rates` amounts are in one currency, and without them plain
    numbers.
    """

    def __init__(self, spec: DatasetSpec, rates: Rates | None = None) -> None:
        self.spec, self.rates = spec, rates
        categorical, numeric = spec.categorical_names, spec.numeric_names
        own = transaction_names(categorical, numeric)
        of_entities = [name for kind in spec.entity_names for name in entity_names(kind)]
        of_account = account_names(categorical, numeric, spec.entity_names)
        self.names = (*own, *of_account, *of_entities)
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise ValueError(f"spec {spec.name}: two fields both give a feature {twice[0]}")
        self._attempts = [self.names.index(f"account_attempts_{span}") for span in ("5m", "1h")]
        # Of each kind of entity, the positions of what its matured labels say.
        self.evidence = {
            kind: [f for f, name in enumerate(self.names) if name in evidence_names(kind)]
            for kind in spec.entity_names
        }
        codes = [f"{name}{CODE}" for name in categorical]
        identities = [f"{kind}{IDENTITY}" for kind in spec.entity_names]
        self.kinds = tuple(_kind(name, codes, identities, own) for name in self.names)
        self.account_sums, self.entity_sums, self.confirmed_sums = sums_of(
            len(categorical), len(numeric), len(spec.entity_names)
        )
        half_lives = [RECENT_HALF_LIVES, HABIT_HALF_LIVES, ENTITY_HALF_LIVES, LABEL_HALF_LIVES]
        constants = [half_lives, BUCKETS, LEAST_SPREAD]
        # Amounts at other rates are other numbers, in the states of a database, too.
        at_rates = [] if rates is None else [rates.reference, sorted(rates.per_unit.items())]
        described = json.dumps([DEFINITION, *constants, self.names, *at_rates])
        self.digest = hashlib.sha256(described.encode()).hexdigest()[:16]

    def blank(self, rows: int) -> TransactionColumns:
        """Rows of one account that add nothing to any sum, of no entity, at the epoch."""
        spec = self.spec
        none_NK = np.full((rows, len(spec.entity_names)), NO_ENTITY)
        return TransactionColumns(
            account_N=np.zeros(rows, np.int64),
            entity_NK=none_NK,
            link_NK=none_NK.copy(),
            entity_code_NK=np.full(none_NK.shape, MISSING),
            time_us_N=np.zeros(rows, np.int64),
            amount_N=np.full(rows, np.nan),
            standing_N=np.full(rows, ASIDE),
            categorical_NC=np.full((rows, len(spec.categorical_names)), MISSING),
            numeric_NM=np.full((rows, len(spec.numeric_names)), np.nan),
        )

    def empty(self, accounts: int, entities: int, links: int) -> Memory:
        """The memory of so many accounts, entities and links of which nothing has happened yet."""
        return Memory(
            States.empty(accounts, self.account_sums),
            States.empty(entities, self.entity_sums),
            States.empty(entities, self.confirmed_sums),
            np.full(links, NEVER_US),
        )

    def serve(self, columns: TransactionColumns, memory: Memory, labels: EntityLabels) -> Features:
        """The features of N transactions, each from what came strictly before it: [N, F].

        Rows see the memory, the earlier rows beside them and the labels that matured before
        them. The memory is brought forward: it holds them all afterwards, but for what UNDECIDED
        rows are to their accounts (`serve_deciding`). Raises ValueError where it does not have
        what they point at.
        """
        walk = self._begun(columns, memory, labels)
        walk.of_accounts(walk.order_N, memory.accounts.packed)
        return walk.features_NF

    def serve_deciding(
        self,
        columns: TransactionColumns,
        memory: Memory,
        labels: EntityLabels,
        decide: Callable[[Ints, Features], Ints],
    ) -> Features:
        """The same where it depends on the features of a row how it counts for those after it.

        `decide` is called with the positions of some rows and their features, and says how each
        of them counts: SPENT, REFUSED or TRIED (what is ASIDE is so by its type, and its entities
        have counted the others already). It is not listened to where that is known.
        """
        walk = self._begun(columns, memory, labels)
        for rows in _rounds(columns, walk.order_N):
            walk.of_accounts(rows, memory.accounts.packed)
            walk.settle(rows, decide(rows, walk.features_NF[rows]), memory.accounts.packed)
        return walk.features_NF

    def _begun(self, columns: TransactionColumns, memory: Memory, labels: EntityLabels) -> Walk:
        """A walk that has been to the entities, with features of this definition."""
        walk = Walk(columns)
        if walk.features_NF.shape[1] != len(self.names):
            raise AssertionError("there are more names than features, or fewer")
        packed = memory.entities.packed, memory.confirmed.packed
        walk.of_entities(*packed, memory.first_use_us_L, labels)
        return walk

    def recount(
        self,
        columns: TransactionColumns,
        accounts: States,
        standing_N: Ints,
        features_NF: Features,
    ) -> None:
        """Let the states have N of their rows as `standing_N` says, no longer as `columns` does.

        `features_NF` are what the rows had when they came. The sums are then what they would be
        had the rows always counted so, but for the last bits, and for the attempts that a payment
        came after (`account_burst_z`), which are taken from its features, in single precision.
        """
        attempts_N2 = np.ascontiguousarray(features_NF[:, self._attempts], np.float64)
        for counted_N, times in ((columns.standing_N, -1.0), (standing_N, 1.0)):
            walk = Walk(replace(columns, standing_N=counted_N))
            walk.recount(accounts.packed, attempts_N2, times)

    def compute(
        self,
        columns: TransactionColumns,
        memory: Memory | None = None,
        labels: EntityLabels | None = None,
    ) -> Features:
        """The same, and the memory stays as it is.

        Without one, the given rows are all that ever happened.
        """
        labels = labels or EntityLabels.none()
        if memory is None:
            entities = np.maximum(
                columns.entity_NK.max(initial=-1), labels.entity_E.max(initial=-1)
            )
            memory = self.empty(
                columns.account_N.max(initial=-1) + 1,
                entities + 1,
                columns.link_NK.max(initial=-1) + 1,
            )
            return self.serve(columns, memory, labels)
        return self.serve(columns, memory.copy(), labels)

    def remember(self, columns: TransactionColumns, memory: Memory, labels: EntityLabels) -> Memory:
        """A memory of its own after N transactions and E matured labels."""
        after = memory.copy()
        self.serve(columns, after, labels)
        return after

    def gather(self, entities: States, entity_S: Ints, slots: States) -> States:
        """The states of entities with those of S more slots of theirs: all that has come to any."""
        whole, parts = entities.copy(), slots.copy()
        gather(whole.packed, entity_S, parts.packed)
        return whole

    def confirmed(self, kind: str, time_us_N: Ints, labels: EntityLabels) -> Features:
        """Of transactions with one entity of a kind, the features at `evidence`: [N, V].

        The entity's labels are at position 0, and all there are.
        """
        # What labels say does not depend on which entity they are of.
        columns = replace(self.blank(len(time_us_N)), time_us_N=time_us_N)
        k = self.spec.entity_names.index(kind)
        columns.entity_NK[:, k] = columns.link_NK[:, k] = 0
        return self.serve(columns, self.empty(1, 1, 1), labels)[:, self.evidence[kind]]


def without_identities(kinds: Sequence[Kind]) -> list[int]:
    """The positions of all features but identities.

    Those are only ever compared with each other: as numbers they are arbitrary.
    """
    return [f for f, kind in enumerate(kinds) if kind != "identity"]


def evidence_names(kind: str) -> list[str]:
    """The features that matured labels of an entity give."""
    return [
        f"{kind}_{what}_{span}" for span in LABEL_HALF_LIVES for what in ("fraud_share", "frauds")
    ]


def _rounds(columns: TransactionColumns, order_N: Ints) -> list[Ints]:
    """The rows in the order of time, those apart that follow an UNDECIDED of their account.

    Rows of an instant do not see each other.
    """
    is_open_N = columns.standing_N == UNDECIDED
    if not is_open_N.any():
        return [order_N]
    # Of an account: its round, and since when a row of that round is open.
    reached: dict[int, tuple[int, int | None]] = {}
    rounds: list[list[int]] = [[]]
    each_N = (
        order_N,
        *(of_N[order_N] for of_N in (columns.account_N, columns.time_us_N, is_open_N)),
    )
    for row, account, time_us, is_open in zip(*(of_N.tolist() for of_N in each_N), strict=True):
        at, since_us = reached.get(account, (0, None))
        if since_us is not None and since_us < time_us:
            at, since_us = at + 1, None
            if at == len(rounds):
                rounds.append([])
        rounds[at].append(row)
        reached[account] = at, time_us if is_open and since_us is None else since_us
    return [np.array(rows, np.int64) for rows in rounds]


def check_same_features(spec: DatasetSpec, features: FeatureSet, model: str) -> None:
    """Raises ValueError where a spec gives other features than the one a model was trained on.

    It says in which fields. Columns and label delays may differ: they are the file's own.
    """
    trained = features.spec
    fields = {
        "entities": [sorted(each.entities) for each in (spec, trained)],
        "categorical": [sorted(each.categorical) for each in (spec, trained)],
        "numeric": [sorted(each.numeric) for each in (spec, trained)],
    }
    parts = []
    if features.rates is not None and not spec.has_currencies:
        parts.append("[columns] lacks currency")
    for section, (names, wanted) in fields.items():
        where = f"[{section}]"
        if missing := [name for name in wanted if name not in names]:
            parts.append(f"{where} lacks {', '.join(missing)}")
        if unknown := [name for name in names if name not in wanted]:
            parts.append(f"{where} has {', '.join(unknown)}, which the model does not know")
    if parts:
        raise ValueError(
            f"spec {spec.name} gives other features than the model {model}, which was trained on "
            f"spec {trained.name}: {'; '.join(parts)}"
        )


def _kind(name: str, codes: list[str], identities: list[str], own: list[str]) -> Kind:
    if name in codes:
        return "code"
    if name in identities:
        return "identity"
    # An attribute may be called what it likes.
    if name in own and name != "log_amount":
        return "own"
    return kind_by_name(name)


def kind_by_name(name: str) -> Literal["amount", "pace", "refused", "used", "history"]:
    """Of a feature that compares a payment with the past, what its name says."""
    if RISES_WITH_AMOUNT.fullmatch(name):
        return "amount"
    if name.endswith(USED):
        return "used"
    if OF_REFUSALS.fullmatch(name):
        return "refused"
    return "pace" if OF_PACE.fullmatch(name) else "history"
