"""What may still come of each image of a sequence, by the calls there have been."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from server.domain.purchases import Outlook, Step, outlook
from server.domain.task import Attempt, Call, CallState, Task
from tests.unit.domain.tasks import NOW_MS, error, image, sequence


def called(*indexes: int, paid: bool = True, receipt: str = "") -> Call:
    return Call(state=CallState.DONE, paid=paid, sent_time_ms=NOW_MS, indexes=indexes, receipt=receipt)


def after(*attempts: tuple[Call, ...], images: int = 3, most: int = 2) -> Task:
    """A sequence after attempts with these calls."""
    rows = {
        number: Attempt(
            number=number, provider="ark", worker="w", start_time_ms=NOW_MS, calls=dict(enumerate(calls))
        )
        for number, calls in enumerate(attempts, 1)
    }
    return replace(sequence(images, max_paid_attempts=most), attempt=len(rows), attempts=rows)


def expected(*fetches: Step, for_sale: tuple[int, ...] = (), exhausted: tuple[int, ...] = ()) -> Outlook:
    return Outlook(fetches=fetches, for_sale=for_sale, exhausted=exhausted)


@pytest.mark.parametrize(
    ("task", "ahead"),
    [
        pytest.param(after(), expected(for_sale=(0, 1, 2)), id="nothing called"),
        pytest.param(after((called(),)), expected(for_sale=(0, 1, 2)), id="one of two calls made"),
        pytest.param(after((called(),), (called(),)), expected(exhausted=(0, 1, 2)), id="both made"),
        pytest.param(
            after((called(),), (called(1),)), expected(for_sale=(0, 2), exhausted=(1,)), id="one exhausted"
        ),
        pytest.param(
            after((called(paid=False),), (called(paid=False),), (called(),)),
            expected(for_sale=(0, 1, 2)),
            id="free calls do not count",
        ),
        pytest.param(
            after((called(0, receipt="old"), called(1, 2)), (called(1, receipt="new"), called(2))),
            expected(Step(indexes=(1,), receipt="new"), Step(indexes=(0,), receipt="old"), exhausted=(2,)),
            id="what is bought is fetched, the newest first",
        ),
        pytest.param(
            after((called(0, 1, receipt="old"),), (called(0, receipt="new"),), most=1),
            expected(Step(indexes=(0,), receipt="new"), Step(indexes=(1,), receipt="old"), for_sale=(2,)),
            id="each from its newest receipt",
        ),
        pytest.param(
            replace(after((called(),), (called(),)), images={0: image(0)}, failures={2: error()}),
            expected(exhausted=(1,)),
            id="only what is missing",
        ),
    ],
)
def test_each_missing_image_is_fetched_or_for_sale_or_exhausted(task: Task, ahead: Outlook) -> None:
    assert outlook(task) == ahead
