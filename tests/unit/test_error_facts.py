"""What a reason promises stands in every error of a task: its own, its images' and its attempts'."""

from __future__ import annotations

from msgspec.structs import replace

from server.api import convert
from server.domain import writes
from server.domain.errors import Reason, TaskError
from server.domain.task import Attempt, AttemptOutcome, TaskState
from server.links import Link
from tests.contract.samples import new_image, new_task

REFUSED = TaskError(reason=Reason.CONTENT_POLICY_OUTPUT, message="Refused.")
BUSY = TaskError(reason=Reason.PROVIDER_UNAVAILABLE, message="Busy.", retryable=True)


def link(key: str) -> Link:
    return Link(url=f"http://localhost/{key}", expire_time_ms=1)


def test_the_errors_of_images_and_attempts_say_what_their_reasons_promise() -> None:
    task = new_task()
    attempts = {  # waits for capacity took the numbers between them
        number: Attempt(
            number=number,
            provider=provider,
            worker="w",
            start_time_ms=1,
            end_time_ms=2,
            outcome=AttemptOutcome.REJECTED,
            error=BUSY,
        )
        for number, provider in ((1, "ark"), (4, "local"))
    }
    sequence = replace(
        task,
        state=TaskState.COMPLETED,
        provider="local",
        max_paid_attempts=1,
        request=replace(task.request, sequence=True, max_images=3),
        images={0: new_image(0)},
        failures={1: writes.outcome_unknown("Nothing came"), 2: REFUSED},
        attempts=attempts,
    )
    message = convert.task(sequence, link)
    assert [dict(failure.error.metadata) for failure in message.image.failures] == [
        {"provider": "local", "max_paid_attempts": "1"},
        {"provider": "local"},
    ]
    assert [dict(attempt.error.metadata) for attempt in message.attempts] == [
        {"provider": "ark", "attempts": "1"},
        {"provider": "local", "attempts": "2"},
    ]


def test_what_an_error_says_itself_stays() -> None:
    told = replace(BUSY, metadata={"provider": "another", "limit": "7"})
    task = replace(new_task(), state=TaskState.FAILED, error=told)
    metadata = dict(convert.task(task, link).error.metadata)
    assert metadata == {"provider": "another", "attempts": "0", "limit": "7"}
