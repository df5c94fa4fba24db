from collections.abc import Sequence

from app.learner.features import Features, MerchantLabels
from app.learner.transaction import TransactionColumns

HALF_LIVES_DAYS: tuple[int, ...]
LABEL_HALF_LIVES_DAYS: dict[str, float]
BUCKETS: int
LEAST_SPREAD: float
CODE: str

def transaction_names(categorical: Sequence[str], numeric: Sequence[str]) -> list[str]: ...
def account_names(categorical: Sequence[str], numeric: Sequence[str]) -> list[str]: ...
def merchant_names() -> list[str]: ...
def sums_of(fields: int, numbers: int) -> tuple[int, int, int]: ...
def walk(
    features_NF: Features,
    columns: TransactionColumns,
    has_merchant: bool,
    accounts: bytearray,
    merchants: bytearray,
    confirmed: bytearray,
    labels: MerchantLabels,
) -> None: ...
