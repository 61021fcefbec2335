"""Random histories of one task: whatever workers, providers and clocks do, its promises hold.

Workers act on what they read when they began, however old that is; only the conditional writes stand
between them. The document is the stores' own form of a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from server.domain import attempt_writes, life, purchases, verdicts
from server.domain.task import AttemptOutcome, CallState, Task, TaskState
from server.domain.verdicts import MAX_LOST_WORKERS, Failure
from server.domain.writes import Write, with_images
from tests.unit.domain.record import Record
from tests.unit.domain.tasks import NOW_MS, TTL_MS, error, image, pending, sequence

MAX_RETRIES = 2


class Event(Enum):
    """What may happen next. All but the last three happen to one of the workers that think they run it."""

    IMAGE = auto()
    RECEIPT = auto()
    """The provider says what it made, before any of it is fetched."""
    EARLY_RECEIPT = auto()
    """It says that one more image is made, and may make others."""
    DONE = auto()
    FAILS = auto()
    FAILS_FOR_GOOD = auto()
    BUSY = auto()
    STOPS_BEFORE_THE_CALL = auto()
    KILLED = auto()
    DECLARED_LOST = auto()
    """It was only stopped for a while, and goes on later, not knowing."""
    CLAIMED_TWICE = auto()
    CANCELLED = auto()
    TIME_PASSES = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """An event, which worker it happens to, and how a call fails."""

    event: Event
    worker: int
    outcome: AttemptOutcome
    jitter: float


def steps(*events: Event) -> st.SearchStrategy[list[Step]]:
    """Up to 30 of these events."""
    outcomes = (AttemptOutcome.NOT_SENT, AttemptOutcome.REJECTED, AttemptOutcome.IN_DOUBT)
    step = st.builds(
        Step,
        st.sampled_from(events),
        st.integers(0, 3),
        st.sampled_from(outcomes),
        st.sampled_from([0.0, 0.5, 1.0 - 2**-53]),
    )
    return st.lists(step, max_size=30)


class History:
    """One task, the workers that think they have it, and what was really bought."""

    def __init__(self, task: Task, *, paid: bool) -> None:
        self.record = Record(task)
        self.paid = paid
        self.now_ms = NOW_MS
        self.running: list[Task] = []
        """The task as each of the workers goes by it."""
        self.lost: set[str] = set()
        self.bought = 0
        """Paid calls that the provider took, or may have taken."""
        self.cut_short = False
        """A call gave some of its images and then a refusal: the others were not bought by it."""
        self.end = ""

    def take(self, step: Step) -> None:
        """One step; a worker claims the task first when nobody runs it."""
        match step.event:
            case Event.CLAIMED_TWICE:
                reading = self.record.task
                self.claim(reading)
                self.claim(reading)
            case Event.CANCELLED:
                if not self.record.task.state.terminal:
                    self.record.document["cancel_requested"] = True
            case Event.TIME_PASSES:
                self.now_ms += TTL_MS // 3
            case _:
                if not self.running:
                    self.claim(self.record.task)
                if self.running:
                    self.happen(step, self.running.pop(step.worker % len(self.running)))
        self.check()

    def claim(self, task: Task) -> None:
        """A worker takes the task from the queue, when it is due, and goes by this reading (rule W3)."""
        if task.state.terminal:
            return None
        if task.state is TaskState.PENDING:
            self.now_ms = max(self.now_ms, task.not_before_ms)
            if task.cancel_requested:
                return self.write(life.cancel_pending(task, self.now_ms))
            if life.expired(task, self.now_ms):
                return self.write(life.expire(task, self.now_ms))
        else:
            if task.owner not in self.lost:
                return None
            verdict = verdicts.lost_worker(task, self.now_ms)
            if verdict is not None:
                return self.write(verdict)
        worker = f"worker-{self.record.document['revision']}"
        write, marked = life.mark(task, worker=worker, provider="ark", paid=self.paid, now_ms=self.now_ms)
        if self.record.write(write):
            assert marked.missing_images, "a call for nothing"
            if marked.attempts[marked.attempt].calls:
                assert not purchases.to_fetch(task), "bought again before it was fetched"
                self.buy(marked)
            self.running.append(marked)
        return None

    def buy(self, mine: Task) -> None:
        """The worker that goes by `mine` has written a purchase down."""
        assert mine.attempts[mine.attempt].start_time_ms < mine.ttl_time_ms, "bought after the ttl"
        earlier = [a.outcome for n, a in self.record.task.attempts.items() if n < mine.attempt]
        doubt = self.cut_short or AttemptOutcome.IN_DOUBT in earlier
        assert not self.bought or doubt, "a second call without a doubt"
        self.bought += self.paid

    def go_on(self, mine: Task) -> Task | None:
        """What was bought earlier is all fetched: the worker buys the rest. None when it was overtaken."""
        if mine.attempts[mine.attempt].calls or purchases.to_fetch(mine) or not mine.missing_images:
            return mine
        call = life.new_call(mine, mine.missing_images, paid=self.paid, now_ms=self.now_ms)
        if not self.record.write(attempt_writes.open_call(mine, 0, call, self.now_ms)):
            return None
        self.buy(mine)
        attempt = replace(mine.attempts[mine.attempt], calls={0: call})
        return replace(mine, attempts={**mine.attempts, mine.attempt: attempt})

    def happen(self, step: Step, mine: Task) -> None:
        """The event happens to the worker that goes by `mine`."""
        going = self.go_on(mine)
        if going is None:
            return
        mine, outcome = going, step.outcome
        missing, coming = mine.missing_images, self.coming(mine)
        match step.event:
            case Event.KILLED | Event.DECLARED_LOST:
                self.lost.add(mine.owner)
                if step.event is Event.DECLARED_LOST:
                    self.running.append(mine)
                return
            case Event.IMAGE | Event.DONE if coming and (
                set(coming) < set(missing) or (step.event is Event.IMAGE and mine.images_wanted > 1)
            ):
                self.write(attempt_writes.add_image(mine, image(coming[0]), self.now_ms))
                self.running.append(replace(mine, images={**mine.images, coming[0]: image(coming[0])}))
                return
            case Event.IMAGE | Event.DONE:
                self.complete(mine)
                return
            case Event.RECEIPT | Event.EARLY_RECEIPT:
                self.keep_receipt(mine, early=step.event is Event.EARLY_RECEIPT)
                return
            case _ if not missing:  # a call cannot fail any more that has given everything
                self.complete(mine)
                return
            case Event.STOPS_BEFORE_THE_CALL if self.has_begun_to_give(mine):
                self.running.append(mine)  # not before the call any more: it goes on
                return
            case Event.STOPS_BEFORE_THE_CALL:
                self.bought -= self.paid and self.unanswered(mine)
                self.write(verdicts.after_drain(mine, self.now_ms))
                return
            case Event.BUSY:
                outcome = AttemptOutcome.REJECTED
        bought = not self.buying(mine)
        if outcome is not AttemptOutcome.IN_DOUBT:
            self.bought -= self.paid and self.unanswered(mine)
            self.cut_short |= not bought and not self.unanswered(mine)
        failure = Failure(
            outcome=outcome,
            error=error(retryable=step.event is not Event.FAILS_FOR_GOOD),
            paid=self.paid,
            no_capacity=step.event is Event.BUSY,
            bought=bought,
        )
        write, delay_ms = verdicts.after_failure(
            mine, failure, now_ms=self.now_ms, max_retries=MAX_RETRIES, jitter=step.jitter
        )
        most_ms = verdicts.BACKOFF_CAP_MS if bought else max(0, mine.ttl_time_ms - self.now_ms)
        assert delay_ms is None or 0 <= delay_ms <= most_ms
        self.write(write)

    def keep_receipt(self, mine: Task, *, early: bool) -> None:
        """The open call of the worker that goes by `mine` gets its receipt, or names one image more."""
        so_far: tuple[int, ...] = ()
        if self.buying(mine):
            if early:
                call = mine.attempts[mine.attempt].calls[0]
                named = purchases.named(mine, call)
                so_far = tuple(sorted({*named, *[i for i in mine.missing_images if i not in named][:1]}))
                if not so_far:
                    self.running.append(mine)
                    return
            if not self.record.write(
                attempt_writes.add_receipt(mine, 0, "what it made", self.now_ms, so_far=so_far)
            ):
                return
            mine = attempt_writes.with_receipt(mine, 0, "what it made", so_far=so_far)
            assert mine.attempts[mine.attempt].calls == self.record.task.attempts[mine.attempt].calls
        self.running.append(mine)

    def buying(self, mine: Task) -> bool:
        """Whether the worker has a call that may still buy something."""
        return any(call.state is CallState.OPEN for call in mine.attempts[mine.attempt].calls.values())

    def coming(self, mine: Task) -> tuple[int, ...]:
        """The images that the worker may have next: those of its open call, else what is bought already."""
        if self.buying(mine):
            return mine.missing_images
        return tuple(index for step in purchases.to_fetch(mine) for index in step.indexes)

    def unanswered(self, mine: Task) -> bool:
        """Whether the worker has a call of which nothing came."""
        calls = mine.attempts[mine.attempt].calls.values()
        return any(not purchases.delivered(mine, call) for call in calls)

    def has_begun_to_give(self, mine: Task) -> bool:
        """Whether the worker has a call that gave an image already, and may give more."""
        calls = mine.attempts[mine.attempt].calls.values()
        return self.buying(mine) and any(purchases.delivered(mine, call) for call in calls)

    def complete(self, mine: Task) -> None:
        """Everything that was missing is there."""
        images = [image(i) for i in mine.missing_images]
        self.write(with_images(attempt_writes.complete(mine, self.now_ms), images))

    def write(self, write: Write) -> None:
        """Offer the write; a refused one changes nothing."""
        before, revision = repr(self.record.document), self.record.document["revision"]
        if self.record.write(write):
            assert self.record.document["revision"] == revision + 1
        else:
            assert repr(self.record.document) == before

    def check(self) -> None:
        """What always holds."""
        task = self.record.task
        assert self.bought <= purchases.paid_or_open_calls(task) <= task.max_paid_attempts
        assert task.counts.errors <= MAX_RETRIES
        assert task.counts.lost <= MAX_LOST_WORKERS
        still_open = [n for n, attempt in task.attempts.items() if attempt.outcome is None]
        assert still_open == ([task.attempt] if task.state is TaskState.PROCESSING else [])
        assert set(task.attempts) <= set(range(1, task.attempt + 1))
        assert task.attempt - len(task.attempts) <= task.counts.waits, "only waits leave no attempt"
        if task.state is TaskState.COMPLETED:
            assert task.images
            assert not task.missing_images
        if task.state is TaskState.FAILED:
            assert task.error is not None
            assert not task.images
        if task.state.terminal:
            self.end = self.end or repr(self.record.document)
            assert repr(self.record.document) == self.end, "a terminal task has changed"

    def finish(self) -> None:
        """A way to the end always exists: everybody is lost, and the ttl runs out."""
        late, self.running = self.running, []
        self.now_ms = max(self.now_ms, NOW_MS + TTL_MS)
        for _ in range(1 + MAX_LOST_WORKERS):  # from PENDING the first claim loses nobody
            self.lost.add(self.record.task.owner)
            self.claim(self.record.task)
            if self.record.task.state.terminal:
                break
            assert purchases.to_fetch(self.record.task), "only what is bought outlives the ttl"
        assert self.record.task.state.terminal
        self.running = late + self.running
        while self.running:  # those that were only stopped come back, too late
            self.complete(self.running.pop())
            self.check()


def play(task: Task, history: list[Step], *, paid: bool) -> None:
    told = History(task, paid=paid)
    for step in history:
        told.take(step)
    told.finish()


@settings(max_examples=300, deadline=None, database=None)
@given(
    history=steps(*Event), max_paid=st.integers(1, 3), images=st.sampled_from([1, 1, 3]), paid=st.booleans()
)
def test_promises_hold_in_every_history(history: list[Step], max_paid: int, images: int, paid: bool) -> None:
    task = pending(max_paid_attempts=max_paid)
    play(task if images == 1 else sequence(images, max_paid_attempts=max_paid), history, paid=paid)


@settings(max_examples=200, deadline=None, database=None)
@given(
    history=steps(Event.FAILS, Event.KILLED, Event.DECLARED_LOST, Event.CLAIMED_TWICE),
    max_paid=st.integers(1, 3),
    images=st.sampled_from([1, 3]),
    paid=st.booleans(),
)
def test_calls_are_bounded_when_nothing_goes_well(
    history: list[Step], max_paid: int, images: int, paid: bool
) -> None:
    play(sequence(images, max_paid_attempts=max_paid), history, paid=paid)


@settings(max_examples=100, deadline=None, database=None)
@given(history=steps(Event.IMAGE, Event.KILLED, Event.DECLARED_LOST), images=st.integers(2, 3))
def test_an_image_that_is_there_is_never_asked_for_again(history: list[Step], images: int) -> None:
    play(sequence(images, max_paid_attempts=10), history, paid=True)
