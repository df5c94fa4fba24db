"""Turns: each owner in turn, and none is lost with whoever waits no more."""

import asyncio

import pytest

from app.ops.turns import Turns, owner

pytestmark = pytest.mark.anyio


async def waiting(turns: Turns, names: str, served: list[str]) -> list["asyncio.Task[None]"]:
    """Tasks that want a turn each, by the names of their owners, in this order."""

    async def one(name: str) -> None:
        owner.set(name)
        async with turns.one():
            served.append(name)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(one(name)) for name in names]
    await asyncio.sleep(0)
    return tasks


async def test_whoever_comes_late_waits_for_one_of_each_other_owner() -> None:
    turns, served = Turns(1), list[str]()
    async with turns.one():
        tasks = await waiting(turns, "aaaaabbbbc", served)
    await asyncio.gather(*tasks)
    assert "".join(served) == "abcabababa"


@pytest.mark.parametrize(
    ("count", "names", "most"),
    [
        (1, "a", 1),
        (2, "a", 2),
        (3, "a", 2),
        (15, "a", 10),
        (15, "abc", 13),
        (15, "abcdefghijklmnop", 15),
    ],
)
async def test_so_many_have_a_turn_at_once(count: int, names: str, most: int) -> None:
    turns, at_once, seen = Turns(count), 0, 0

    async def one(name: str) -> None:
        nonlocal at_once, seen
        owner.set(name)
        async with turns.one():
            at_once += 1
            seen = max(seen, at_once)
            await asyncio.sleep(0.001)
            at_once -= 1

    await asyncio.gather(*(asyncio.create_task(one(name)) for name in names * 30))
    assert seen == most


async def test_whoever_keeps_its_turns_leaves_some_to_others() -> None:
    turns, ends, served = Turns(15), asyncio.Event(), list[str]()

    async def kept() -> None:
        owner.set("stuck")
        async with turns.one():
            await ends.wait()

    stuck = [asyncio.create_task(kept()) for _ in range(30)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await asyncio.gather(*await waiting(turns, "abcab", served))
    assert len(served) == 5
    ends.set()
    await asyncio.gather(*stuck)


@pytest.mark.parametrize("has_come", [False, True])
async def test_a_turn_of_whoever_was_cancelled_is_anothers(has_come: bool) -> None:
    turns, served = Turns(1), list[str]()
    async with turns.one():
        first, second = await waiting(turns, "ab", served)
        if not has_come:
            first.cancel()
    # The first has it, and does not know of it yet.
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert served == ["b"]
    async with asyncio.timeout(5), turns.one():
        pass


async def test_a_turn_ends_with_an_error_too() -> None:
    turns = Turns(1)
    with pytest.raises(ValueError, match="inside"):
        async with turns.one():
            raise ValueError("inside")
    async with asyncio.timeout(5), turns.one():
        pass
