"""The batcher alone: what travels together, who gets which answer, and what happens when a batch fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from server.domain.errors import StoreUnavailable
from server.store.batching import MIN_SHARE, Batcher

TIMEOUT_S = 30.0
SHORT_S = 0.05


class Backend:
    """Answers items by upper case; can be held in mid-flush and told to fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.timeouts_s: list[float] = []
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.spoilt_by: dict[str, Exception] = {}

    async def flush(self, items: Sequence[str], timeout_s: float) -> Sequence[str | Exception]:
        self.batches.append(list(items))
        self.timeouts_s.append(timeout_s)
        self.entered.set()
        await self.open.wait()
        for item in items:
            if item in self.spoilt_by:
                raise self.spoilt_by[item]
        return [item.upper() for item in items]

    @asynccontextmanager
    async def held(self, batcher: Batcher[str, str], item: str = "first") -> AsyncIterator[asyncio.Task[str]]:
        """Inside, a batch of this one item is in flight; its answer comes after."""
        self.open.clear()
        self.entered.clear()
        first = asyncio.create_task(batcher.submit(item))
        await self.entered.wait()
        yield first
        self.open.set()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
async def batcher(backend: Backend) -> AsyncIterator[Batcher[str, str]]:
    batcher = Batcher(backend.flush, name="test", timeout_s=TIMEOUT_S)
    yield batcher
    backend.open.set()
    await batcher.aclose()


async def joined(*submits: asyncio.Task[str]) -> None:
    """Let each of the tasks run as far as to its place in the queue."""
    for _ in submits:
        await asyncio.sleep(0)


async def test_what_is_asked_at_one_moment_travels_as_one_batch_and_each_gets_its_own_answer(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    assert await asyncio.gather(*map(batcher.submit, "abc")) == ["A", "B", "C"]
    assert backend.batches == [["a", "b", "c"]]


async def test_an_idle_batcher_starts_at_once(backend: Backend, batcher: Batcher[str, str]) -> None:
    assert await batcher.submit("a") == "A"
    assert await batcher.submit("b") == "B"
    assert backend.batches == [["a"], ["b"]]


async def test_what_arrives_during_a_batch_forms_the_next_and_never_joins_it(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    async with backend.held(batcher, "a") as first:
        # The same item again: a read must not be answered by one that left before it was asked.
        later = [asyncio.create_task(batcher.submit(item)) for item in "abc"]
        await joined(*later)
        assert backend.batches == [["a"]]
    assert await first == "A"
    assert await asyncio.gather(*later) == ["A", "B", "C"]
    assert backend.batches == [["a"], ["a", "b", "c"]]


async def test_a_batch_has_a_bounded_size(backend: Backend) -> None:
    batcher = Batcher(backend.flush, name="test", timeout_s=TIMEOUT_S, max_items=4)
    items = [f"i{n}" for n in range(10)]
    assert await asyncio.gather(*map(batcher.submit, items)) == [item.upper() for item in items]
    assert [len(batch) for batch in backend.batches] == [4, 4, 2]


async def test_an_exception_in_the_place_of_a_result_is_that_items_alone() -> None:
    async def flush(items: Sequence[str], timeout_s: float) -> Sequence[str | Exception]:
        return [KeyError(item) if item == "bad" else item for item in items]

    batcher = Batcher(flush, name="test", timeout_s=TIMEOUT_S)
    good, bad = await asyncio.gather(batcher.submit("good"), batcher.submit("bad"), return_exceptions=True)
    assert good == "good"
    assert isinstance(bad, KeyError)


async def test_an_item_that_spoils_the_batch_fails_alone(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    backend.spoilt_by["bad"] = ValueError("cannot be kept")
    answers = await asyncio.gather(*map(batcher.submit, ["a", "bad", "c"]), return_exceptions=True)
    assert answers[0] == "A"
    assert isinstance(answers[1], ValueError)
    assert answers[2] == "C"
    assert backend.batches == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]


async def test_a_store_that_is_away_fails_the_batch_without_trying_one_by_one(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    backend.spoilt_by["b"] = StoreUnavailable("It is away.")
    answers = await asyncio.gather(*map(batcher.submit, "abc"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert len({id(answer) for answer in answers}) == 3, "each caller raises an exception of its own"
    assert backend.batches == [["a", "b", "c"]]
    assert await batcher.submit("a") == "A", "the next batch is tried again"


async def test_too_few_results_are_nobodys_answer() -> None:
    async def flush(items: Sequence[str], timeout_s: float) -> Sequence[str]:
        return items[:-1]

    batcher = Batcher(flush, name="test", timeout_s=TIMEOUT_S)
    answers = await asyncio.gather(*map(batcher.submit, "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError] * 2


async def test_a_cancelled_caller_takes_its_waiting_item_with_it(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    async with backend.held(batcher):
        gone = asyncio.create_task(batcher.submit("gone"))
        stays = asyncio.create_task(batcher.submit("stays"))
        await joined(gone, stays)
        gone.cancel()
    assert await stays == "STAYS"
    assert backend.batches == [["first"], ["stays"]]
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_batch_of_which_nobody_is_left_is_not_sent(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    async with backend.held(batcher) as first:
        gone = asyncio.create_task(batcher.submit("gone"))
        await joined(gone)
        gone.cancel()
    await first
    assert await batcher.submit("b") == "B"
    assert backend.batches == [["first"], ["b"]]


async def test_a_caller_cancelled_in_flight_leaves_the_others_their_answers(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    backend.open.clear()
    gone = asyncio.create_task(batcher.submit("gone"))
    stays = asyncio.create_task(batcher.submit("stays"))
    await backend.entered.wait()
    gone.cancel()
    backend.open.set()
    assert await stays == "STAYS"
    assert backend.batches == [["gone", "stays"]]


async def test_a_flush_that_does_not_end_is_given_up(backend: Backend) -> None:
    batcher = Batcher(backend.flush, name="test", timeout_s=SHORT_S)
    loop = asyncio.get_running_loop()
    async with backend.held(batcher) as first:
        late = asyncio.create_task(batcher.submit("late"))
        began_s = loop.time()
        answers = await asyncio.gather(first, late, return_exceptions=True)
        took_s = loop.time() - began_s
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert took_s < 2 * SHORT_S + 0.5, "the second waits no full time limit after the first"
    assert await batcher.submit("after") == "AFTER"


async def test_the_time_limit_counts_from_the_asking_but_a_batch_always_gets_a_share(
    backend: Backend,
) -> None:
    batcher = Batcher(backend.flush, name="test", timeout_s=SHORT_S)
    backend.spoilt_by["first"] = StoreUnavailable("It is away.")
    async with backend.held(batcher) as first:
        late = asyncio.create_task(batcher.submit("late"))
        with pytest.raises(StoreUnavailable):
            await first
    await asyncio.gather(late, return_exceptions=True)
    assert backend.timeouts_s[0] == pytest.approx(SHORT_S, abs=0.02)
    assert all(timeout_s >= SHORT_S * MIN_SHARE for timeout_s in backend.timeouts_s)
    assert all(timeout_s <= SHORT_S for timeout_s in backend.timeouts_s)


async def test_an_item_whose_time_is_over_before_it_could_leave_is_not_sent(backend: Backend) -> None:
    batcher = Batcher(backend.flush, name="test", timeout_s=SHORT_S, max_items=1)
    loop = asyncio.get_running_loop()
    async with backend.held(batcher) as first:
        waiting = [asyncio.create_task(batcher.submit(f"i{n}")) for n in range(50)]
        began_s = loop.time()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        took_s = loop.time() - began_s
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert took_s < 50 * SHORT_S * MIN_SHARE, "not each of them was tried in its turn"
    assert len(backend.batches) < 10


async def test_closing_finishes_what_was_taken_and_takes_nothing_new(
    backend: Backend, batcher: Batcher[str, str]
) -> None:
    async with backend.held(batcher) as first:
        second = asyncio.create_task(batcher.submit("second"))
        await joined(second)
        closing = asyncio.create_task(batcher.aclose())
        await joined(second)
        assert not closing.done()
        with pytest.raises(StoreUnavailable):
            await batcher.submit("third")
    await closing
    assert (await first, await second) == ("FIRST", "SECOND")
    await batcher.aclose()


async def test_the_end_of_the_event_loop_leaves_nobody_waiting(backend: Backend) -> None:
    batcher = Batcher(backend.flush, name="ending", timeout_s=TIMEOUT_S)
    async with backend.held(batcher) as first:
        second = asyncio.create_task(batcher.submit("second"))
        await joined(second)
        (flusher,) = [task for task in asyncio.all_tasks() if task.get_name() == "batches of ending"]
        flusher.cancel()  # as asyncio.run does with whatever still runs
        await asyncio.wait([first, second])
    assert first.cancelled()
    assert second.cancelled()
