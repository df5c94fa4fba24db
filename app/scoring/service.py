"""Scoring as routes ask for it: transactions put into the next batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.errors import Problem
from app.http.batching import Batcher, Place
from app.http.rates import Rates
from app.learner.transaction import Transaction
from app.scoring.pipeline import Posted
from app.scoring.records import Scored


@dataclass(frozen=True, slots=True)
class Scoring:
    """The queue of what is to be scored, and the rates of the keys."""

    queue: Batcher[Posted, Scored | Problem]
    rates: Rates

    async def score(
        self, place: Place, transactions: Iterable[Transaction]
    ) -> Sequence[Scored | Problem]:
        """Score in the next batch, beside whoever else is waiting."""
        posted = [Posted(place.tenant, transaction) for transaction in transactions]
        return await self.queue.submit(place, posted)
