"""Where the rates of a new model come from: a file, an earlier model, or what comes along."""

import tomllib
from pathlib import Path

from currency_converter import SINGLE_DAY_CURRENCY_FILE, CurrencyConverter
from pydantic import ValidationError

from app.errors import SetupError, first_problem
from app.learner.checkpoint import Checkpoint
from app.learner.money import Rates
from app.learner.spec import DatasetSpec

NOT_QUOTED = Path(__file__).with_name("world.toml")


def rates_for(spec: DatasetSpec, chosen: Path | None) -> Rates | None:
    """The rates that a model of this spec compares amounts by; none where all are in one currency.

    They are of the TOML file, or the model's folder, that is `chosen`, else those that come along:
    of the European Central Bank, by CurrencyConverter, and of other currencies. Raises SetupError
    where they cannot be read.
    """
    if not spec.has_currencies:
        if chosen is not None:
            raise SetupError(
                f"rates are of no use to spec {spec.name}, which names no column of currencies: "
                "set currency under [columns]"
            )
        return None
    if chosen is None:
        return bundled_rates()
    if chosen.suffix == ".toml":
        return read_rates(chosen)
    rates = Checkpoint.load(chosen).metadata.rates
    if rates is None:
        raise SetupError(f"model {chosen}: it has no rates to keep")
    return rates


def read_rates(path: Path) -> Rates:
    """Rates in TOML: `reference`, `[per_unit]` and, where it is stated, `as_of`.

    Raises SetupError where there are none of that form.
    """
    try:
        return Rates.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SetupError(f"rates {path}: {error}") from None
    except ValidationError as error:
        raise SetupError(f"rates {path}: {first_problem(error, 'rates')}") from None


def bundled_rates() -> Rates:
    """What a unit of each currency was worth in euros on the newest day that the package has.

    Of the currencies that the bank does not quote, on the day of the table beside this file: a rate
    that is some per cent off tells more than none.
    """
    converter = CurrencyConverter(SINGLE_DAY_CURRENCY_FILE)
    reference = converter.ref_currency
    quoted = {code: converter.convert(1, code) for code in sorted(converter.currencies)}
    return Rates(
        reference=reference,
        as_of=converter.bounds[reference].last_date,
        per_unit={**read_rates(NOT_QUOTED).per_unit, **quoted},
    )
