"""What is wrong with the references of a request is told at once, and never as something to try again."""

from __future__ import annotations

import asyncio

import pytest

from server.domain.admission import DraftReference
from server.service.references import READ_AT_ONCE_FOR_ONE
from tests.integration.picture_server import PictureServer
from tests.integration.service.desk import Desk
from tests.integration.service.test_references import CAT, by_link, faults
from tests.waiting import until

MISSHAPEN = by_link("ftp://h/a.png")
NO_OUTPUT = DraftReference(kind="output", task_id="none", index=0)


async def test_wrong_outputs_and_links_of_a_wrong_form_are_told_together(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as server:
        found = await faults(desk, MISSHAPEN, NO_OUTPUT, by_link(server.link("cat")), MISSHAPEN)
        assert server.asked.total() == 0
    assert list(found) == [
        "reference_images[0].url",
        "reference_images[1].output.task_id",
        "reference_images[3].url",
    ]


@pytest.mark.parametrize("beside", [False, True])
async def test_a_link_of_a_wrong_form_is_wrong_also_while_too_many_tasks_wait(
    desk: Desk, beside: bool
) -> None:
    desk.submits._queue_max_depth = 0
    async with PictureServer(cat=CAT) as server:
        references = [by_link(server.link("cat"))] * beside + [MISSHAPEN]
        found = await faults(desk, *references)
        assert server.asked.total() == 0
    assert list(found) == [f"reference_images[{int(beside)}].url"]


@pytest.mark.parametrize("beside", [False, True])
async def test_a_link_of_a_wrong_form_is_wrong_also_while_too_many_links_are_read(
    desk: Desk, beside: bool
) -> None:
    async with PictureServer(cat=CAT) as server:
        server.open.clear()
        link = by_link(server.link("cat"))
        reading = asyncio.create_task(desk.submit(references=(link,) * 14))
        await until(lambda: server.asked["cat"] == READ_AT_ONCE_FOR_ONE, within_s=5, what="its share")
        found = await faults(desk, *[link] * beside, MISSHAPEN, links_timeout_s=0.1)
        assert server.asked["cat"] == READ_AT_ONCE_FOR_ONE
        server.open.set()
        await reading
    assert list(found) == [f"reference_images[{int(beside)}].url"]
