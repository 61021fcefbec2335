"""The kill matrix' ledger finds every broken promise, and only those."""

from __future__ import annotations

import pytest
from task.v1 import attempt_pb2, error_reason_pb2, image_pb2, task_error_pb2, task_pb2

from tests.chaos.ledger import Audit, Promise, audit, same

KILLED_MS, NEXT_MS = 1_000, 4_000
ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def attempt(number: int, worker: str, outcome: str, *, start_ms: int, end_ms: int) -> attempt_pb2.Attempt:
    made = attempt_pb2.Attempt(
        number=number,
        worker=worker,
        outcome=f"ATTEMPT_OUTCOME_{outcome}",
        paid=outcome == "SUCCEEDED",
    )
    made.start_time.FromMilliseconds(start_ms)
    made.end_time.FromMilliseconds(end_ms)
    if outcome == "IN_DOUBT":
        made.error.reason = error_reason_pb2.ERROR_REASON_WORKER_LOST
    return made


LOST = attempt(1, "victim", "IN_DOUBT", start_ms=500, end_ms=NEXT_MS)
FIRST = attempt(1, "alive", "SUCCEEDED", start_ms=500, end_ms=900)
SECOND = attempt(2, "alive", "SUCCEEDED", start_ms=NEXT_MS, end_ms=5_000)


def completed(*attempts: attempt_pb2.Attempt) -> task_pb2.Task:
    picture = task_pb2.Task(task_id=ID, state=task_pb2.TASK_STATE_COMPLETED, attempts=attempts)
    picture.image.images.append(image_pb2.Image(sha256="0" * 64))
    picture.end_time.CopyFrom(attempts[-1].end_time)
    return picture


def failed(reason: str, *attempts: attempt_pb2.Attempt) -> task_pb2.Task:
    error = task_error_pb2.TaskError(reason=f"ERROR_REASON_{reason}")
    task = task_pb2.Task(task_id=ID, state=task_pb2.TASK_STATE_FAILED, attempts=attempts, error=error)
    task.end_time.FromMilliseconds(NEXT_MS)
    return task


def cancelled(*attempts: attempt_pb2.Attempt) -> task_pb2.Task:
    task = task_pb2.Task(task_id=ID, state=task_pb2.TASK_STATE_CANCELLED, attempts=attempts)
    task.end_time.FromMilliseconds(NEXT_MS)
    return task


def held(
    task: task_pb2.Task | None,
    *,
    billed: int,
    max_paid: int = 2,
    recovery_s: float = 6.0,
    cancel: bool = False,
    killed: str = "victim",
    slow_machine: bool = False,
) -> Audit:
    promise = Promise(task_id=ID, request_id="r", prompt="p", max_paid=max_paid, cancelled=cancel, final=task)
    return audit(
        [promise],
        billed={"p": billed},
        killed={killed: KILLED_MS},
        recovery_s=recovery_s,
        slow_machine=slow_machine,
    )


@pytest.mark.parametrize(
    ("task", "billed", "max_paid"),
    [
        pytest.param(completed(FIRST), 1, 1, id="bought once"),
        pytest.param(completed(LOST, SECOND), 2, 2, id="bought again after a kill"),
        pytest.param(completed(LOST, SECOND), 1, 1, id="resumed by a receipt"),
        pytest.param(failed("OUTCOME_UNKNOWN", LOST), 1, 1, id="in doubt, and no second call is allowed"),
        pytest.param(failed("OUTCOME_UNKNOWN", LOST), 0, 1, id="killed before the call arrived"),
    ],
)
def test_what_the_rules_allow_is_no_violation(task: task_pb2.Task, billed: int, max_paid: int) -> None:
    found = held(task, billed=billed, max_paid=max_paid)
    assert found.violations == []
    assert (found.lost, found.bought_twice) == (0, 0)


@pytest.mark.parametrize(
    ("task", "billed", "max_paid", "says"),
    [
        pytest.param(None, 0, 2, "cannot be found", id="gone"),
        pytest.param(task_pb2.Task(task_id=ID), 0, 2, "has not ended", id="stuck"),
        pytest.param(completed(FIRST), 2, 2, "bought 2 times where 1", id="bought twice for nothing"),
        pytest.param(
            completed(LOST, SECOND), 2, 1, "bought 2 times where 1", id="twice where once is the most"
        ),
        pytest.param(
            completed(LOST, SECOND), 3, 3, "bought 3 times where 2", id="more often than it was hit"
        ),
        pytest.param(completed(FIRST), 0, 2, "never bought", id="a picture from nowhere"),
        pytest.param(failed("OUTCOME_UNKNOWN", LOST), 1, 2, "no rule lets it", id="a call was left to spend"),
        pytest.param(
            failed("INTERNAL_ERROR", FIRST), 1, 2, "no rule lets it", id="failed for another reason"
        ),
    ],
)
def test_a_broken_promise_is_found(task: task_pb2.Task | None, billed: int, max_paid: int, says: str) -> None:
    found = held(task, billed=billed, max_paid=max_paid)
    assert any(says in violation.what for violation in found.violations), found.violations
    assert all(ID in violation.about for violation in found.violations)


TWICE = (LOST, attempt(2, "victim", "IN_DOUBT", start_ms=500, end_ms=NEXT_MS))


def test_who_may_be_bought_twice_is_completed() -> None:
    found = held(failed("OUTCOME_UNKNOWN", *TWICE), billed=2)
    assert ["might have been bought once more" in violation.what for violation in found.violations] == [True]


@pytest.mark.parametrize("slow_machine", [False, True])
def test_a_verdict_on_a_living_worker_is_excused_on_a_slow_machine_only(slow_machine: bool) -> None:
    found = held(completed(LOST, SECOND), billed=2, killed="another", slow_machine=slow_machine)
    assert found.false_verdicts == 1
    told = [] if slow_machine else ["taken from a worker that lived", "bought 2 times where 1 is the most"]
    assert len(found.violations) == len(told)
    for violation, says in zip(found.violations, told, strict=True):
        assert says in violation.what


@pytest.mark.parametrize(
    ("task", "billed", "cancel", "says"),
    [
        pytest.param(cancelled(LOST), 1, True, "", id="as it was told"),
        pytest.param(completed(LOST, SECOND), 1, True, "ended otherwise", id="not cancelled"),
        pytest.param(cancelled(*TWICE), 2, True, "bought 2 times where 1", id="bought after the cancel"),
        pytest.param(cancelled(LOST), 1, False, "nobody had it cancelled", id="nobody asked for it"),
    ],
)
def test_cancels_are_held(task: task_pb2.Task, billed: int, cancel: bool, says: str) -> None:
    found = held(task, billed=billed, cancel=cancel)
    assert [says in violation.what for violation in found.violations] == ([True] if says else [])


def test_recovery_is_from_the_kill_to_the_next_attempt() -> None:
    assert held(completed(LOST, SECOND), billed=2).slowest_s == 3.0
    late = held(completed(LOST, SECOND), billed=2, recovery_s=2.9)
    assert [violation.what for violation in late.violations] == ["recovery took 3.0 s, bound 2.9 s"]


def test_an_end_that_changes_is_found() -> None:
    before, after = completed(FIRST), completed(FIRST)
    after.revision += 1
    promise = Promise(task_id=ID, request_id="r", prompt="p", max_paid=2, seen_end=before, final=after)
    found = audit([promise], billed={"p": 1}, killed={}, recovery_s=6)
    assert ["changed after its end" in violation.what for violation in found.violations] == [True]


def test_links_are_new_at_every_reading() -> None:
    before, after = completed(FIRST), completed(FIRST)
    for n, task in enumerate((before, after)):
        task.image.images[0].url = f"http://127.0.0.1/outputs/x.png?signature={n}"
        task.image.images[0].url_expire_time.FromSeconds(n)
    assert same(before, after)
    after.image.images[0].url = "http://127.0.0.1/outputs/y.png?signature=0"
    assert not same(before, after)


def test_two_request_ids_with_one_task_are_found() -> None:
    promises = [
        Promise(task_id=ID, request_id=name, prompt="p", max_paid=2, final=completed(FIRST)) for name in "ab"
    ]
    found = audit(promises, billed={"p": 1}, killed={}, recovery_s=6)
    assert [violation.about for violation in found.violations] == [ID]
