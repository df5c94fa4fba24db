"""The items of a request that are each answered alone: of one transaction the first counts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from app.errors import Problem, ValidationFailed
from app.http.fields import InvalidItem
from app.http.problems import invalid
from app.scoring.schemas import ItemProblem, NotStored


class OfTransaction(Protocol):
    """What says something of a stored transaction."""

    @property
    def transaction_id(self) -> str: ...


Item = TypeVar("Item", bound=OfTransaction)
Answer = TypeVar("Answer")
Result = TypeVar("Result")
Refused = TypeVar("Refused", bound=NotStored)


class Items(Generic[Item]):
    """The items of a request, which say something of transactions in one field.

    `first` has those to store, by transaction: an item that says otherwise than an earlier one of
    the same transaction is refused.
    """

    def __init__(self, items: Sequence[Item | InvalidItem], field: str) -> None:
        self._items = items
        self._field = field
        self.first: dict[str, Item] = {}
        for item in items:
            if not isinstance(item, InvalidItem):
                self.first.setdefault(item.transaction_id, item)

    def results(
        self,
        answers: Mapping[str, Answer | Problem],
        stored: Callable[[str, Answer], Result],
        refused: type[Refused],
    ) -> list[Result | Refused]:
        """The result of each item, in their order, by what became of the first ones."""

        def result(item: Item | InvalidItem) -> Result | Refused:
            if isinstance(item, InvalidItem):
                return refused(transaction_id=item.transaction_id, error=why_invalid(item))
            key = item.transaction_id
            answer = answers[key]
            if getattr(item, self._field) != getattr(self.first[key], self._field):
                answer = ValidationFailed(f"{self._field}: {otherwise(self._field)}")
            if isinstance(answer, Problem):
                return refused(transaction_id=key, error=problem_of(answer))
            return stored(key, answer)

        return [result(item) for item in self._items]


def otherwise(field: str) -> str:
    """Why an item is refused that says otherwise than an earlier one."""
    return f"This transaction has another {field} earlier in the same request."


def why_invalid(item: InvalidItem) -> ItemProblem:
    """All that is wrong with an item of a batch."""
    errors = invalid(item.errors).errors
    sentences = (f"{error.field or 'item'}: {error.message}" for error in errors)
    return problem_of(ValidationFailed("; ".join(sentences)))


def problem_of(problem: Problem) -> ItemProblem:
    """Why one item of a batch failed."""
    return ItemProblem(code=problem.code, title=problem.title, detail=problem.detail)
