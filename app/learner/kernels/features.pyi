from collections.abc import Sequence

from app.learner.features import EntityLabels, Features
from app.learner.states import Floats, Ints
from app.learner.transaction import TransactionColumns

RECENT_HALF_LIVES: dict[str, float]
HABIT_HALF_LIVES: dict[str, float]
ENTITY_HALF_LIVES: dict[str, float]
LABEL_HALF_LIVES: dict[str, float]
BUCKETS: int
LEAST_SPREAD: float
CODE: str
IDENTITY: str

def transaction_names(categorical: Sequence[str], numeric: Sequence[str]) -> list[str]: ...
def account_names(
    categorical: Sequence[str], numeric: Sequence[str], kinds: Sequence[str]
) -> list[str]: ...
def entity_names(kind: str) -> list[str]: ...
def sums_of(fields: int, numbers: int, kinds: int) -> tuple[int, int, int]: ...
def walk(
    features_NF: Features,
    columns: TransactionColumns,
    accounts: bytearray,
    entities: bytearray,
    confirmed: bytearray,
    first_use_us_L: Ints,
    labels: EntityLabels,
) -> None: ...
def gather(entities: bytearray, entity_S: Ints, slots: bytearray) -> None: ...
def settle(columns: TransactionColumns, accounts: bytearray) -> None: ...
def recount(
    columns: TransactionColumns, accounts: bytearray, attempts_N2: Floats, times: float
) -> None: ...
