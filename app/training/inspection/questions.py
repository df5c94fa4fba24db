"""Questions to a person where a guess would not be sure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.errors import SetupError


@dataclass(frozen=True, slots=True)
class Question:
    """`choices` are possible answers and what each means; `check` says what is wrong with others.

    Without `check` there are no others. `proposal` is the likeliest answer.
    """

    name: str
    text: str
    choices: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[str], str | None] | None = None
    proposal: str | None = None

    def wrong(self, answer: str) -> str | None:
        """Why this is no answer, in one sentence."""
        if answer in self.choices:
            return None
        if self.check is None:
            return f"{answer!r} is not among {', '.join(self.choices)}"
        return self.check(answer)


class Unanswered(SetupError):
    """Questions that nobody was there to answer."""

    def __init__(self, questions: list[Question]) -> None:
        self.questions = questions
        options = [f"--answer {question.name}=…" for question in questions]
        super().__init__(
            f"{len(questions)} guess{'es are' if len(questions) > 1 else ' is'} not sure; say with "
            f"{' and '.join(options)} which is right, or run it on a terminal"
        )


class Answers:
    """Answers that were stated beforehand, by name, and a person to ask for the others."""

    def __init__(
        self, stated: Mapping[str, str], ask: Callable[[Question], str] | None = None
    ) -> None:
        self._stated, self._ask = dict(stated), ask
        self._used: set[str] = set()
        self._unanswered: list[Question] = []

    def of(self, question: Question) -> str:
        """The answer; where nobody is there to ask, a stand-in until all questions are known.

        Raises SetupError for an answer that does not fit the question.
        """
        self._used.add(question.name)
        if question.name not in self._stated:
            if self._ask is not None:
                self._stated[question.name] = self._ask(question)
            else:
                self._unanswered.append(question)
                return question.proposal or next(iter(question.choices), "")
        answer = self._stated[question.name]
        if wrong := question.wrong(answer):
            raise SetupError(f"--answer {question.name}={answer}: {wrong}")
        return answer

    def stated(self, name: str) -> str | None:
        """An answer that a person gave although the guess was sure."""
        self._used.add(name)
        return self._stated.get(name)

    def open(self) -> list[Question]:
        """The questions that nobody has answered."""
        return list(self._unanswered)

    def settle(self) -> None:
        """Raises Unanswered where questions are left, and SetupError where an answer fits none."""
        if self._unanswered:
            raise Unanswered(self._unanswered)
        if unknown := [name for name in self._stated if name not in self._used]:
            raise SetupError(
                f"--answer {unknown[0]}: unknown question; those about this file are "
                f"{', '.join(sorted(self._used))}"
            )
