"""The rows of labels, as the code passes them on: plain tuples, no ORM."""

import json
from typing import Any, NamedTuple

from app.entities.states import EntityKey


class StoredLabel(NamedTuple):
    """A row of `labels`."""

    tenant: str
    transaction_id: str
    account_id: str
    is_fraud: bool
    occurred_at_us: int
    labelled_at_us: int
    matures_at_us: int
    source: str = "analyst"
    analyst: str | None = None
    note: str | None = None
    recorded_at_us: int = 0
    features: bytes | None = None


class LabelEntity(NamedTuple):
    """A row of `label_entities`: an entity that a labelled payment names.

    `folded` is whether the label is in the entity's record, None where there is none any more.
    """

    tenant: str
    transaction_id: str
    kind: str
    entity_id: str
    matures_at_us: int
    folded: bool | None = False
    removed_at_us: int | None = None

    @property
    def key(self) -> EntityKey:
        return self.kind, self.entity_id


class EntityLabel(NamedTuple):
    """What an entity's record keeps of a label."""

    transaction_id: str
    kind: str
    entity_id: str
    matures_at_us: int
    is_fraud: bool

    @property
    def key(self) -> EntityKey:
        return self.kind, self.entity_id


class LabelEvent(NamedTuple):
    """A row of `label_events`: a label set, changed or removed, by which revision of its account.

    `is_fraud` is None where it was removed. A correction says the same label again, with other
    features to learn from. Of a rollback, `as_of` is the revision that it came back to.
    """

    tenant: str
    account_id: str
    revision: int
    transaction_id: str
    is_fraud: bool | None
    occurred_at_us: int
    labelled_at_us: int
    matures_at_us: int
    source: str
    analyst: str | None
    note: str | None
    recorded_at_us: int
    features: bytes | None = None
    is_correction: bool = False
    as_of: int | None = None


class LabelChange(NamedTuple):
    """What features may have seen of a row of `label_events`, at one of its entities."""

    kind: str
    entity_id: str
    transaction_id: str
    account_id: str
    revision: int
    is_fraud: bool | None
    matures_at_us: int
    recorded_at_us: int
    as_of: int | None = None

    @property
    def key(self) -> EntityKey:
        return self.kind, self.entity_id


class Removals(NamedTuple):
    """What differs once another label of some entities is removed.

    An erasure deletes the removed labels, too: it shows by its row in `forgettings` until it ends,
    and by its certificate afterwards.
    """

    labels: int
    checksum: int
    newest_erasure: tuple[tuple[Any, ...], ...]
    erasing: tuple[tuple[Any, ...], ...]


class Witness(NamedTuple):
    """A labelled transaction that may have seen other labels of an entity.

    It saw what was recorded by `computed_at_us`. One that `is_corrected` learns from other features
    than it was scored by.
    """

    transaction_id: str
    account_id: str
    kind: str
    entity_id: str
    occurred_at_us: int
    computed_at_us: int
    is_corrected: bool

    @property
    def key(self) -> EntityKey:
        return self.kind, self.entity_id


class Progress(NamedTuple):
    """How many labels of others are corrected, and of an erasure, how many rows are gone."""

    corrected: int = 0
    erased_transactions: int = 0
    erased_label_events: int = 0
    erased_reviews: int = 0


class Forgetting(NamedTuple):
    """A row of `forgettings`: labels that are removed, which others have yet to forget.

    Or that a rollback made others, which others have yet to learn from as they were.
    `transactions` are their payments' ids, as JSON. Of an erasure the `id` is its certificate's,
    and so many rows of the account are gone already.
    """

    tenant: str
    id: str
    at_us: int
    account_id: str
    is_erasure: bool
    actor: str
    transactions: str
    labels: int
    corrected: int = 0
    erased_transactions: int = 0
    erased_label_events: int = 0
    erased_reviews: int = 0

    @property
    def ids(self) -> list[str]:
        """The payments whose labels were removed."""
        return list(json.loads(self.transactions))


class SupportRow(NamedTuple):
    """A labelled transaction with the features of its moment."""

    transaction_id: str
    features: bytes
    is_fraud: bool
    occurred_at_us: int
    labelled_at_us: int

    @property
    def learned(self) -> tuple[str, bytes, bool, int]:
        """What copies learn from: when it was labelled is nothing to them."""
        return self.transaction_id, self.features, self.is_fraud, self.occurred_at_us
