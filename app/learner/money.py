"""Amounts of money: compared in one reference currency, and written as people write them."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from math import floor, log10, nan
from typing import Annotated, Self

import iso4217
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Code = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
# Far beyond any currency, and far enough from the limits of a float to multiply amounts by.
Rate = Annotated[float, Field(ge=1e-12, le=1e12)]

MINOR_UNITS: dict[str, int] = {
    currency.code: currency.exponent
    for currency in iso4217.Currency
    if currency.exponent is not None
}
# Of what is no currency of ISO 4217: two decimals, or what three digits take where it is small.
USUAL_DECIMALS, MOST_DECIMALS = 2, 12


class Rates(BaseModel):
    """What one unit of each currency is worth in units of the reference currency.

    Carried by the checkpoint: the states of a database are sums of amounts in this unit, so it
    stays the same for as long as the model does. `as_of` is the day of the rates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reference: Code
    as_of: date | None = None
    per_unit: dict[Code, Rate]

    @model_validator(mode="after")
    def _of_its_reference(self) -> Self:
        if self.per_unit.setdefault(self.reference, 1.0) != 1:
            raise ValueError(f"{self.reference} is the reference currency, so its rate is 1")
        return self

    def of(self, currency_N: Sequence[str | None]) -> NDArray[np.float64]:
        """The rate of each currency, NaN where there is none."""
        return np.array([self.per_unit.get(code or "", nan) for code in currency_N], np.float64)

    def converted(self, amount: float, currency: str | None) -> float | None:
        """An amount in the reference currency; None where its currency has no rate."""
        rate = self.per_unit.get(currency or "")
        return None if rate is None else amount * rate


def amount_of(amount: float, currency: str | None) -> str:
    """A computed amount with its currency, rounded to minor units: 81.00 EUR, 4,510 JPY."""
    decimals = MINOR_UNITS.get(currency or "")
    if decimals is None:
        decimals = USUAL_DECIMALS
        if amount > 0:
            decimals = min(max(decimals, 2 - floor(log10(amount))), MOST_DECIMALS)
    return _with(f"{amount:,.{decimals}f}", currency)


def posted_amount(amount: Decimal, currency: str | None) -> str:
    """An amount to its last digit, and at least to minor units: 412.00 EUR, 5,000 JPY."""
    decimals = MINOR_UNITS.get(currency or "", USUAL_DECIMALS)
    decimals = max(decimals, -int(amount.as_tuple().exponent))
    return _with(f"{amount:,.{decimals}f}", currency)


def _with(number: str, currency: str | None) -> str:
    return f"{number} {currency}" if currency else number
