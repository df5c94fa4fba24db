"""Requests that come together are answered together, and none suffers from another."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.db.errors import DatabaseUnavailable
from app.errors import Problem
from app.http.batching import SHARED_ITEMS, Batcher
from app.http.problems import DeadlineExceeded, InternalError, Overloaded
from app.learner.transaction import MOST_ITEMS
from app.models.errors import ModelUnavailable

pytestmark = pytest.mark.anyio


class EarlyTimers(asyncio.SelectorEventLoop):
    """Its timers ring 1 ms early, as uvloop's do by a rounding error."""

    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        return super().call_at(when - 0.001, *args, **options)


@pytest.fixture(params=[asyncio.SelectorEventLoop, EarlyTimers])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loop of these tests."""
    return "asyncio", {"loop_factory": request.param}


class Processor:
    """Answers numbers with their doubles, noting every batch; negative ones are its downfall."""

    def __init__(self, failure: type[Exception] = ZeroDivisionError) -> None:
        self.failure = failure
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.open.wait()
        if any(item < 0 for item in items):
            raise self.failure
        return [2 * item for item in items]


def batcher_of(
    *arguments: Any, most_waiting: int = 10 * MOST_ITEMS, seconds: float = 30.0
) -> Batcher[Any, Any]:
    return Batcher(*arguments, most_waiting=most_waiting, deadline_seconds=seconds)


async def ask(batcher: Batcher[Any, Any], items: Sequence[int], tenant: str = "t") -> Any:
    """The answers of a request that has a place in the queue."""
    place = batcher.enter(tenant, 0)
    try:
        return await batcher.submit(place, items)
    finally:
        place.leave()


async def test_a_request_alone_is_answered_at_once() -> None:
    processor = Processor()
    async with batcher_of(processor) as batcher:
        assert await ask(batcher, [1]) == [2]
        assert await ask(batcher, [2, 3]) == [4, 6]
    assert processor.batches == [[1], [2, 3]]


async def test_requests_that_come_during_a_batch_share_the_next() -> None:
    processor = Processor()
    processor.open.clear()
    async with batcher_of(processor) as batcher:
        answers = [asyncio.create_task(ask(batcher, [0]))]
        await asyncio.sleep(0.01)
        answers += [asyncio.create_task(ask(batcher, [n, n])) for n in (1, 2, 3)]
        await asyncio.sleep(0.01)
        processor.open.set()
        assert await asyncio.gather(*answers) == [[0], [2, 2], [4, 4], [6, 6]]
    assert processor.batches == [[0], [1, 1, 2, 2, 3, 3]]


async def test_a_batch_has_a_limit_and_keeps_requests_whole_and_in_order() -> None:
    processor = Processor()
    processor.open.clear()
    sizes = [MOST_ITEMS - 1, 2, MOST_ITEMS, 1]
    reported: list[int] = []
    async with batcher_of(processor, reported.append) as batcher:
        answers = [asyncio.create_task(ask(batcher, [7] * size)) for size in sizes]
        await asyncio.sleep(0.01)
        processor.open.set()
        assert [len(answer) for answer in await asyncio.gather(*answers)] == sizes
    assert reported == [len(batch) for batch in processor.batches] == sizes


async def test_one_failure_does_not_fail_its_neighbours() -> None:
    processor = Processor()
    processor.open.clear()
    async with batcher_of(processor) as batcher:
        answers = [asyncio.create_task(ask(batcher, [n])) for n in (0, 1, -1, 2)]
        await asyncio.sleep(0.01)
        processor.open.set()
        results = await asyncio.gather(*answers, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [[0], [2], [4]]
    assert isinstance(results[2], ZeroDivisionError)


async def test_a_database_that_is_away_fails_everyone_at_once() -> None:
    batches = 0

    async def process(items: Sequence[int]) -> list[int]:
        nonlocal batches
        batches += 1
        raise DatabaseUnavailable

    async with batcher_of(process) as batcher:
        results = await asyncio.gather(
            *(ask(batcher, [n]) for n in range(5)), return_exceptions=True
        )
    assert [type(result) for result in results] == [DatabaseUnavailable] * 5
    assert batches == 1


async def test_a_caller_that_hangs_up_is_left_out_and_the_others_are_served() -> None:
    processor = Processor()
    processor.open.clear()
    async with batcher_of(processor) as batcher:
        first = asyncio.create_task(ask(batcher, [0]))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(ask(batcher, [1]))
        stays = asyncio.create_task(ask(batcher, [2]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        processor.open.set()
        assert await asyncio.gather(first, stays) == [[0], [4]]
    assert processor.batches == [[0], [2]]


@pytest.mark.parametrize("most_waiting", [3, 64])
async def test_callers_that_come_again_share_a_batch_again(
    most_waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.http.batching.LONGEST_WAIT_SECONDS", 60.0)
    processor = Processor()
    processor.open.clear()

    async def caller(number: int) -> None:
        await ask(batcher, [number])
        # Nobody is as quick as another to ask again.
        await asyncio.sleep(number / 50)
        await ask(batcher, [number])

    async with batcher_of(processor, most_waiting=most_waiting) as batcher:
        callers = [asyncio.create_task(caller(n)) for n in (0, 1, 2)]
        await asyncio.sleep(0.01)
        processor.open.set()
        await asyncio.gather(*callers)
    assert list(map(sorted, processor.batches)) == [[0, 1, 2], [0, 1, 2]]


async def test_a_caller_whose_neighbours_have_gone_waits_no_longer_than_the_bound() -> None:
    async with batcher_of(Processor()) as batcher, asyncio.timeout(30):
        # Many times: two clocks that round differently agree most of the time.
        for _ in range(100):
            await asyncio.gather(ask(batcher, [1]), ask(batcher, [2]))
            assert await ask(batcher, [3]) == [6]


async def test_a_caller_alone_never_waits_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.http.batching.LONGEST_WAIT_SECONDS", 60.0)
    async with batcher_of(Processor()) as batcher, asyncio.timeout(30):
        for number in range(20):
            assert await ask(batcher, [number]) == [2 * number]
            await asyncio.sleep(0)


@pytest.mark.parametrize(("most_waiting", "size", "fills"), [(4, 1, 3), (64, 999, 3)])
async def test_a_full_queue_lets_nobody_of_that_tenant_in_and_answers_who_is_in(
    most_waiting: int, size: int, fills: int
) -> None:
    processor = Processor()
    processor.open.clear()
    async with batcher_of(processor, most_waiting=most_waiting) as batcher:
        first = asyncio.create_task(ask(batcher, [0]))
        await asyncio.sleep(0.01)
        waiting = []
        for _ in range(fills):
            assert not batcher.is_full
            waiting.append(asyncio.create_task(ask(batcher, [1] * size)))
            await asyncio.sleep(0.01)
        assert batcher.is_full
        with pytest.raises(Overloaded):
            await ask(batcher, [1] * size)
        # Another tenant has a share of its own.
        other = asyncio.create_task(ask(batcher, [3], "other"))
        await asyncio.sleep(0.01)
        processor.open.set()
        assert await first == [0]
        assert await asyncio.gather(*waiting) == [[2] * size] * fills
        assert await other == [6]
        assert not batcher.is_full


async def test_answers_go_out_before_the_next_batch_is_begun() -> None:
    processor = Processor()
    processor.open.clear()
    seen = []
    async with batcher_of(processor, most_waiting=2) as batcher:

        async def see(n: int) -> None:
            await ask(batcher, [n])
            seen.append((n, len(processor.batches)))

        tasks = [asyncio.create_task(see(0))]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(see(1)))
        await asyncio.sleep(0.01)
        processor.open.set()
        await asyncio.gather(*tasks)
    assert seen == [(0, 1), (1, 2)]


async def test_nobody_waits_for_those_who_were_not_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.http.batching.LONGEST_WAIT_SECONDS", 60.0)
    processor = Processor()
    processor.open.clear()
    async with batcher_of(processor, most_waiting=5) as batcher:
        tasks = [asyncio.create_task(ask(batcher, [n])) for n in range(3)]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(ask(batcher, [n])) for n in range(3, 5)]
        await asyncio.sleep(0.01)
        processor.open.set()
        # The first batch was of three, and two wait: where five are all, others were refused.
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)


async def test_nobody_waits_longer_than_the_deadline_and_the_next_batch_is_answered() -> None:
    processor = Processor()
    processor.open.clear()
    async with batcher_of(processor, seconds=0.5) as batcher:
        waiting = [asyncio.create_task(ask(batcher, [n])) for n in range(3)]
        for task in waiting:
            with pytest.raises(DeadlineExceeded):
                await task
        processor.open.set()
        assert await ask(batcher, [4]) == [8]
    # Together, and not one by one after that: who waits for a stuck database is not to blame.
    assert processor.batches == [[0, 1, 2], [4]]


async def test_each_tenant_has_its_turn_in_a_batch() -> None:
    processor = Processor()
    processor.open.clear()
    answered: list[int] = []

    async def note(number: int, items: Sequence[int], tenant: str) -> None:
        assert await ask(batcher, items, tenant) == [2 * item for item in items]
        answered.append(number)

    async with batcher_of(processor) as batcher:
        answers = [asyncio.create_task(ask(batcher, [0]))]
        await asyncio.sleep(0.01)
        large = list(range(MOST_ITEMS))
        for number, (tenant, items) in enumerate(
            [("a", large), ("a", large), ("b", [-0]), ("b", [2]), ("c", [3])]
        ):
            answers.append(asyncio.create_task(note(number, items, tenant)))
        await asyncio.sleep(0.01)
        processor.open.set()
        await asyncio.gather(*answers)
    _, shared, *_ = processor.batches
    # Nobody waits for more of a large request than its share of one batch, whose items keep their
    # order.
    assert shared == [*range(SHARED_ITEMS // 2), 0, 3, 2]
    assert max(map(len, processor.batches)) <= SHARED_ITEMS
    assert answered[-2:] == [0, 1]
    assert [item for batch in processor.batches for item in batch if item > 3][
        : len(large) - 4
    ] == (large[4:])


async def test_a_large_request_stays_whole_where_no_other_tenant_asks() -> None:
    processor = Processor()
    async with batcher_of(processor) as batcher:
        await asyncio.gather(*(ask(batcher, [1] * MOST_ITEMS, "a") for _ in range(2)))
        assert [len(batch) for batch in processor.batches] == [MOST_ITEMS] * 2
        await ask(batcher, [1], "b")
        await ask(batcher, [1] * MOST_ITEMS, "a")
    assert max(map(len, processor.batches[2:])) <= SHARED_ITEMS


async def test_parts_of_a_large_request_that_fail_are_found_and_the_rest_is_answered() -> None:
    processor = Processor()
    async with batcher_of(processor) as batcher:
        await ask(batcher, [1], "b")
        items = [-1 if n == 500 else n for n in range(MOST_ITEMS)]
        answers = await ask(batcher, items, "a")
    assert [n for n, answer in enumerate(answers) if answer != 2 * n] == [500]
    assert isinstance(answers[500], InternalError)


# An answer for callers, too, is one for those alone whose requests it is about.
@pytest.mark.parametrize("failure", [ZeroDivisionError, ModelUnavailable])
async def test_a_tenant_whose_requests_fail_leaves_the_others_alone(
    failure: type[Exception],
) -> None:
    processor = Processor(failure)
    async with batcher_of(processor) as batcher:
        # Together the first time, when nobody knows.
        tried = await asyncio.gather(
            ask(batcher, [-1], "a"),
            ask(batcher, [1, -2, 3, 4], "a"),
            ask(batcher, [5], "b"),
            return_exceptions=True,
        )
        assert isinstance(tried[0], failure)
        blamed = failure if issubclass(failure, Problem) else InternalError
        assert [type(answer) for answer in tried[1]] == [int, blamed, int, int]
        assert tried[2] == [10]
        processor.batches.clear()
        tried = await asyncio.gather(
            *(ask(batcher, [-n], "a") for n in range(1, 9)),
            *(ask(batcher, [n], "b") for n in range(1, 9)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in tried[:8]] == [failure] * 8
        assert tried[8:] == [[2 * n] for n in range(1, 9)]
    # From then on its batches are its own.
    assert not [batch for batch in processor.batches if min(batch) < 0 < max(batch)]


@pytest.mark.parametrize("tenants", [("a", "b"), ("a", "a")])
async def test_what_fails_does_not_keep_others_waiting(tenants: tuple[str, str]) -> None:
    """A request that fails, and then takes for ever when it is tried again."""
    stuck = asyncio.Event()

    async def process(items: Sequence[int]) -> list[int]:
        if items == [-1]:
            await stuck.wait()
        if -1 in items:
            raise ZeroDivisionError
        return list(items)

    async with batcher_of(process) as batcher, asyncio.timeout(20):
        bad = asyncio.create_task(ask(batcher, [-1], tenants[0]))
        if tenants[0] != tenants[1]:
            for _ in range(3):
                assert await ask(batcher, [2], tenants[1]) == [2]
        else:
            good = asyncio.create_task(ask(batcher, [2], tenants[1]))
            await asyncio.sleep(0.01)
            stuck.set()
            assert await good == [2]
        stuck.set()
        with pytest.raises(ZeroDivisionError):
            await bad


class Fault:
    """Ends the first batch as nothing should; the later ones are answered."""

    def __init__(self, kind: str) -> None:
        self.kind, self.batches = kind, 0

    async def __call__(self, items: Sequence[int]) -> Any:
        self.batches += 1
        if self.batches == 1:
            if self.kind == "cancelled":
                raise asyncio.CancelledError
            return {"too few": [], "no list": None}[self.kind]
        return [2 * item for item in items]

    def note(self, size: int) -> None:
        if self.kind == "note" and not self.batches:
            self.batches += 1
            raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["cancelled", "too few", "no list", "note"])
async def test_a_batch_that_ends_as_nothing_should_hangs_nobody_and_the_next_is_answered(
    kind: str,
) -> None:
    fault = Fault(kind)
    async with batcher_of(fault, fault.note) as batcher, asyncio.timeout(20):
        results = await asyncio.gather(
            *(ask(batcher, [n]) for n in range(3)), return_exceptions=True
        )
        assert all(
            result == [2 * n] or isinstance(result, Exception) for n, result in enumerate(results)
        )
        assert await ask(batcher, [4]) == [8]
        assert await ask(batcher, [4], "other") == [8]


async def test_requests_that_wait_past_their_deadline_are_refused_and_not_processed() -> None:
    processor = Processor()
    processor.open.clear()
    async with batcher_of(processor, seconds=0.5) as batcher:
        first = asyncio.create_task(ask(batcher, [0] * MOST_ITEMS))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(ask(batcher, [1]))
        for answer in (first, second):
            with pytest.raises(DeadlineExceeded):
                await answer
        processor.open.set()
        assert await ask(batcher, [4]) == [8]
