"""All references of a request have a bound together, whichever way they come."""

from __future__ import annotations

import hashlib

import pytest

from server.domain.admission import DraftReference
from server.domain.errors import InvalidRequest
from server.domain.request import MAX_ALL_REFERENCES_BYTES, MAX_REFERENCE_BYTES
from server.store.outputs import reference_key
from tests.integration.api.requests import padded
from tests.integration.picture_server import PictureServer
from tests.integration.service.desk import Desk
from tests.integration.service.test_references import by_link, made

LARGE = padded(MAX_REFERENCE_BYTES)
REST = MAX_ALL_REFERENCES_BYTES - 3 * MAX_REFERENCE_BYTES


async def refusal(desk: Desk, *references: DraftReference) -> dict[str, str]:
    """What is told of each wrong field."""
    with pytest.raises(InvalidRequest) as caught:
        await desk.submit(references=references)
    return {v.field: v.description for v in caught.value.violations}


@pytest.mark.parametrize("over", [0, 1])
async def test_the_sum_counts_links_bytes_and_earlier_outputs(desk: Desk, over: int) -> None:
    earlier = await made(desk, size_bytes=MAX_REFERENCE_BYTES)
    before = await desk.live()
    async with PictureServer(large=LARGE) as server:
        references = (
            DraftReference(kind="output", task_id=earlier.id, index=0),
            by_link(server.link("large")),
            by_link(server.link("large")),
            DraftReference(kind="data", data=padded(REST + over)),
        )
        if not over:
            assert len((await desk.submit(references=references)).request.references) == 4
            return
        assert await refusal(desk, *references) == {
            "reference_images": "have 33,554,433 bytes together; allowed: at most 33,554,432"
        }
    assert await desk.live() == before


async def test_equal_pictures_count_each_time(desk: Desk) -> None:
    """They would be kept once, and sent as often as they are named."""
    async with PictureServer(large=LARGE) as server:
        found = await refusal(desk, *[by_link(server.link("large"))] * 14)
    assert found == {"reference_images": "have 146,800,640 bytes together; allowed: at most 33,554,432"}
    assert await desk.outputs.get(reference_key(hashlib.sha256(LARGE).hexdigest())) is None


async def test_what_is_too_much_without_the_links_reads_none(desk: Desk) -> None:
    earlier = await made(desk, size_bytes=MAX_REFERENCE_BYTES)
    output = DraftReference(kind="output", task_id=earlier.id, index=0)
    async with PictureServer(large=LARGE) as server:
        found = await refusal(desk, *[output] * 4, by_link(server.link("large")))
        assert server.asked.total() == 0
    assert found.keys() == {"reference_images"}
    assert await desk.outputs.get(reference_key(hashlib.sha256(LARGE).hexdigest())) is None


async def test_a_wrong_output_does_not_hide_that_the_rest_is_too_much(desk: Desk) -> None:
    earlier = await made(desk, size_bytes=MAX_REFERENCE_BYTES)
    output = DraftReference(kind="output", task_id=earlier.id, index=0)
    found = await refusal(desk, *[output] * 4, DraftReference(kind="output", task_id="none", index=0))
    assert list(found) == ["reference_images", "reference_images[4].output.task_id"]
