"""How alike payments are: by the codes of their categories and the identities of their entities.

What is the same is counted, as in the network's inputs from labels. Codes and identities are
hashes (`category_code`, `entity_code`): of two that differ, one pair in 17 million counts as the
same.

Axes: N payments, K labelled ones, F features, E fields (codes and identities) that are compared.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.features import Features, FeatureSet
from app.learner.kernels.features import CODE, IDENTITY
from app.learner.network import Columns
from app.learner.states import Ints
from app.learner.transaction import ENTITY_FIELDS, MISSING, STANDARD_FIELDS

Flags = NDArray[np.bool_]


class Fields(NamedTuple):
    """What is compared of payments: entities first, then categories, in the order of the API.

    `names` are those of kinds of entities and of categorical fields, `position_E` where each is
    among the features.
    """

    names: Sequence[str]
    position_E: Ints
    is_identity_E: Flags

    def codes(self, features_NF: Features) -> Features:
        """What is compared of payments: [N, E]."""
        return features_NF[:, self.position_E]


class LabelledPayments(NamedTuple):
    """The labelled payments of an account that its copy learns from, newest first."""

    transaction_ids: Sequence[str]
    labelled_at_us_K: Ints
    is_fraud_K: Flags
    codes_KE: Features


class MostAlike(NamedTuple):
    """The labelled payment that a payment is most like, and the fields that they share."""

    transaction_id: str
    is_fraud: bool
    labelled_at_us: int
    in_common: Sequence[str]


@cache
def fields_of(features: FeatureSet) -> Fields:
    """What is compared of payments with these features."""
    compared = Columns.of(features.kinds).compared
    order_of = {name: place for place, name in enumerate([*ENTITY_FIELDS, *STANDARD_FIELDS])}
    found = []
    for f in compared:
        is_identity = features.kinds[f] == "identity"
        name = features.names[f].removesuffix(IDENTITY if is_identity else CODE)
        found.append((not is_identity, order_of.get(name, len(order_of)), name, f))
    found.sort()
    return Fields(
        [name for _, _, name, _ in found],
        np.array([f for *_, f in found], np.int64),
        np.array([not is_category for is_category, *_ in found], np.bool_),
    )


def shared_fields(codes_NE: Features, labelled_KE: Features) -> Flags:
    """Which fields each payment has in common with each labelled one: [N, K, E].

    What neither of them names is nothing in common.
    """
    is_same_NKE: Flags = codes_NE[:, None] == labelled_KE
    is_same_NKE &= (codes_NE != MISSING)[:, None]
    return is_same_NKE


def likeness(fields: Fields, is_same_NKE: Flags) -> Ints:
    """How many fields payments have in common, 0 where these are too few: [N, K].

    Enough is one entity, or half of all fields that are compared, whether they are named or not.
    """
    count_NK = is_same_NKE.sum(axis=-1)
    shares_entity_NK = is_same_NKE[..., fields.is_identity_E].any(axis=-1)
    is_enough_NK = shares_entity_NK | (2 * count_NK >= len(fields.names))
    return np.where(is_enough_NK, count_NK, 0)


def most_alike(
    fields: Fields, features_F: Features, labelled: LabelledPayments, is_fraud: bool
) -> MostAlike | None:
    """The labelled payment of a class that a payment is most like, the newest among equals.

    None where it is like none of them.
    """
    of_class = np.flatnonzero(labelled.is_fraud_K == is_fraud)
    if not len(of_class):
        return None
    codes_1E = fields.codes(features_F[None])
    is_same_1KE = shared_fields(codes_1E, labelled.codes_KE[of_class])
    [likeness_K] = likeness(fields, is_same_1KE)
    # The first of the largest: the newest.
    best = int(likeness_K.argmax())
    if not likeness_K[best]:
        return None
    k = int(of_class[best])
    in_common = [fields.names[e] for e in np.flatnonzero(is_same_1KE[0, best]).tolist()]
    return MostAlike(
        labelled.transaction_ids[k], is_fraud, int(labelled.labelled_at_us_K[k]), in_common
    )


def most_alike_first(
    fields: Fields, features_NF: Features, labelled_KF: Features, is_itself_NK: Flags
) -> list[int]:
    """The positions of payments, those most like any of the labelled ones first.

    Payments that are as alike as others, and those that are like none, stay in their order. A
    payment is not compared with itself.
    """
    is_same_NKE = shared_fields(fields.codes(features_NF), fields.codes(labelled_KF))
    likeness_NK = likeness(fields, is_same_NKE)
    likeness_N = np.where(is_itself_NK, 0, likeness_NK).max(axis=1, initial=0)
    order: list[int] = np.argsort(-likeness_N, kind="stable").tolist()
    return order
