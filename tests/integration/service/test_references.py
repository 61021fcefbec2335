"""Reference images: read and kept before the task is, within bounds, whatever the other server does."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import random
import struct

import grpc
import pytest
from google.rpc import status_pb2
from msgspec.structs import replace
from PIL import Image

from server.api.status import describe
from server.domain import attempt_writes, life
from server.domain.admission import DraftReference
from server.domain.errors import InvalidRequest, LinksBusy, QueueFull, StoreUnavailable
from server.domain.request import MAX_REFERENCE_BYTES
from server.domain.task import Task
from server.domain.writes import with_images
from server.ports import now_ms
from server.service.references import READ_AT_ONCE, READ_AT_ONCE_FOR_ONE
from server.service.submits import Submission
from server.store.outputs import reference_key
from tests.integration.api.requests import flat, padded
from tests.integration.picture_server import SIGNATURE, PictureServer
from tests.integration.service.desk import CALLER, GOOD, Desk
from tests.unit.domain.tasks import image
from tests.waiting import until

CAT, DOG = flat(64, 64), flat(32, 64)


def by_link(url: str) -> DraftReference:
    return DraftReference(kind="url", url=url)


def kept(data: bytes) -> str:
    """The reference that a task has to these bytes."""
    return reference_key(hashlib.sha256(data).hexdigest())


async def stored(desk: Desk, data: bytes) -> bytes | None:
    found = await desk.outputs.get(kept(data))
    return found.data if found is not None else None


def submission(*references: DraftReference, links_timeout_s: float, caller: str = CALLER) -> Submission:
    """A good request with these references, whose links have so much time."""
    draft = replace(GOOD, references=references)
    return Submission(draft=draft, caller=caller, fingerprint="", links_timeout_s=links_timeout_s)


async def faults(desk: Desk, *references: DraftReference, links_timeout_s: float = 5.0) -> dict[str, str]:
    """What is told of each wrong field; nothing of it shows a link, and nothing was accepted."""
    with pytest.raises(InvalidRequest) as caught:
        await desk.submits.submit(submission(*references, links_timeout_s=links_timeout_s))
    assert await desk.live() == []
    assert "127.0.0.1" not in str(caught.value)
    assert SIGNATURE not in str(caught.value)
    return {v.field: v.description for v in caught.value.violations}


# --- links -----------------------------------------------------------------------------------------------


async def test_a_link_is_read_once_and_the_task_works_from_the_copy(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as server:
        link = server.link("cat")
        first = await desk.submit(references=(by_link(link),), request_id="mine")
        server.pages["cat"] = DOG
        again = await desk.submit(references=(by_link(link),), request_id="mine")
        assert server.asked["cat"] == 1, "a repeat reads nothing"
    repeat = await desk.submit(references=(by_link(link),), request_id="mine")  # nor needs the server
    assert first.id == again.id == repeat.id
    assert first.request.references == again.request.references == (kept(CAT),)
    assert await stored(desk, CAT) == CAT
    assert await stored(desk, DOG) is None


async def test_all_kinds_keep_their_order(desk: Desk) -> None:
    earlier = await made(desk)
    async with PictureServer(cat=CAT) as server:
        task = await desk.submit(
            references=(
                DraftReference(kind="data", data=DOG),
                by_link(server.link("to/cat")),
                DraftReference(kind="output", task_id=earlier.id, index=0),
                by_link(server.link("cat")),
            )
        )
    output = image().key
    assert task.request.references == (kept(DOG), kept(CAT), output, kept(CAT))
    assert await desk.store.get(task.id) == task


async def test_all_links_that_give_no_picture_are_named_with_their_reason(desk: Desk) -> None:
    pages = {
        "cat": CAT,
        "page": b"<html>a cat</html>",
        "large": padded(MAX_REFERENCE_BYTES + 1),
        "small": flat(14, 64),
        "long": flat(16, 257),
        "wide": flat(6_001, 6_000),
        "half": CAT[:20],
    }
    async with PictureServer(**pages) as server:
        names = ("cat", "none", "page", "large", "small", "long", "wide", "half", "to/none")
        links = [*map(server.link, names), "http://127.0.0.1:1/cat", "ftp://h/a.png", "https://user@h/a.png"]
        found = await faults(desk, *map(by_link, links))
    told = {
        1: "was answered with HTTP 404",
        2: "is no picture; allowed: PNG, JPEG, WEBP",
        3: "leads to more than 10,485,760 bytes",
        4: "both sides need at least 15",
        5: "one side is at most 16 times the other",
        6: "at most 36,000,000 in all",
        7: "is no picture",
        8: "was answered with HTTP 404",
        9: "could not be reached",
        10: "is not one of the form https://",
        11: "without a user name",
    }
    assert found.keys() == {f"reference_images[{i}].url" for i in told}
    for i, text in told.items():
        assert text in found[f"reference_images[{i}].url"]


async def test_a_server_that_hangs_holds_a_call_no_longer_than_it_may(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as server:
        server.open.clear()
        loop = asyncio.get_running_loop()
        started = loop.time()
        found = await faults(desk, *[by_link(server.link("cat"))] * 3, links_timeout_s=0.3)
        assert loop.time() - started < 3
        assert len(found) == 3
        assert all("gave no whole answer within 0." in told for told in found.values())
        assert "no time left" in str(await faults(desk, by_link(server.link("cat")), links_timeout_s=0.0))
        server.open.set()
        assert (await desk.submit(references=(by_link(server.link("cat")),))).request.references == (
            kept(CAT),
        )


async def test_a_process_reads_few_links_at_once_and_all_get_their_turn(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as server:
        server.open.clear()
        references = tuple([by_link(server.link("cat"))] * 14)
        submits = [
            asyncio.create_task(desk.submit(references=references, caller=caller))
            for caller in ("ann", "bob", "cas")
        ]
        await until(lambda: server.asked["cat"] == READ_AT_ONCE, within_s=5, what="as many as may be")
        await refused_as_busy(desk, server, caller="dan")
        server.open.set()
        tasks = await asyncio.gather(*submits)
        assert (server.at_once, server.asked["cat"]) == (READ_AT_ONCE, 42)
    assert {task.request.references for task in tasks} == {(kept(CAT),) * 14}


async def test_links_of_one_caller_that_hang_keep_nobody_else_waiting(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as hanging, PictureServer(cat=CAT) as server:
        hanging.open.clear()
        references = tuple([by_link(hanging.link("cat"))] * 14)
        submits = [asyncio.create_task(desk.submit(references=references)) for _ in range(2)]
        await until(lambda: hanging.asked["cat"] == READ_AT_ONCE_FOR_ONE, within_s=5, what="its share")
        await refused_as_busy(desk, server, caller=CALLER)
        assert (await desk.submit(references=(by_link(server.link("cat")),), caller="bob")).request.references
        assert hanging.asked["cat"] == READ_AT_ONCE_FOR_ONE
        hanging.open.set()
        await asyncio.gather(*submits)
    gc.collect()  # a refusal's traceback holds its frames in a circle
    assert len(desk.references._shares) == 0, "nothing is kept of callers who have gone"


async def test_of_more_links_than_their_share_those_that_hang_are_named(desk: Desk) -> None:
    """Not overload: the request's own links took the time of its others."""
    async with PictureServer(cat=CAT) as server:
        server.open.clear()
        found = await faults(desk, *[by_link(server.link("cat"))] * 14, links_timeout_s=0.3)
        assert len(found) == READ_AT_ONCE_FOR_ONE


async def test_of_more_links_than_their_share_those_after_slow_ones_are_named(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as slow, PictureServer(cat=CAT) as hanging:
        slow.open.clear()
        hanging.open.clear()
        links = [by_link(slow.link("cat"))] * READ_AT_ONCE_FOR_ONE + [by_link(hanging.link("cat"))] * 6
        asyncio.get_running_loop().call_later(1.2, slow.open.set)
        found = await faults(desk, *links, links_timeout_s=2.0)
    assert found.keys() == {f"reference_images[{place}].url" for place in range(READ_AT_ONCE_FOR_ONE, 14)}


async def test_a_link_that_got_its_turn_late_and_ran_out_of_time_is_not_called_wrong(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as hanging, PictureServer(cat=CAT) as server:
        hanging.open.clear()
        server.open.clear()
        references = tuple([by_link(hanging.link("cat"))] * READ_AT_ONCE_FOR_ONE)
        others = asyncio.create_task(desk.submit(references=references))
        await until(lambda: hanging.asked["cat"] == READ_AT_ONCE_FOR_ONE, within_s=5, what="its share")
        asyncio.get_running_loop().call_later(1.5, hanging.open.set)
        with pytest.raises(LinksBusy):
            await desk.submits.submit(submission(by_link(server.link("cat")), links_timeout_s=2.0))
        assert server.asked["cat"] == 1, "it had its turn"
        await others


async def refused_as_busy(desk: Desk, server: PictureServer, *, caller: str) -> None:
    """A link does not get its turn: its caller may send it again, and nothing was accepted or asked."""
    late = by_link(server.link("late"))
    before = await desk.live()
    with pytest.raises(LinksBusy) as caught:
        await desk.submits.submit(submission(late, caller=caller, links_timeout_s=0.1))
    assert await desk.live() == before
    assert server.asked["late"] == 0
    code, _, trailers = describe(caught.value)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"])
    assert [detail.TypeName() for detail in status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
        "google.rpc.QuotaFailure",
    ]


async def test_a_refused_request_leaves_nothing_of_the_links_that_were_read(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as server:
        cat = by_link(server.link("cat"))
        assert (await faults(desk, cat, by_link(server.link("none")))).keys() == {"reference_images[1].url"}
        async with PictureServer(cat=CAT) as hanging:
            hanging.open.clear()
            slow = by_link(hanging.link("cat"))
            assert (await faults(desk, cat, slow, links_timeout_s=0.3)).keys() == {"reference_images[1].url"}
        assert server.asked["cat"] == 2
    assert desk.output_faults.calls["put"] == 0
    assert await stored(desk, CAT) is None


async def test_pictures_that_wait_for_the_output_store_are_few(desk: Desk) -> None:
    """They are in memory meanwhile: no more requests read links than can have one of their own read."""
    keeping = desk.output_faults.gates["put"] = asyncio.Event()
    async with PictureServer(cat=CAT) as server:
        link = by_link(server.link("cat"))
        submits = [
            asyncio.create_task(desk.submit(references=(link,))) for _ in range(READ_AT_ONCE_FOR_ONE + 1)
        ]
        await until(lambda: desk.output_faults.calls["put"] == READ_AT_ONCE_FOR_ONE, within_s=5)
        await refused_as_busy(desk, server, caller=CALLER)
        assert server.asked["cat"] == READ_AT_ONCE_FOR_ONE
        keeping.set()
        tasks = await asyncio.gather(*submits)
    assert {task.request.references for task in tasks} == {(kept(CAT),)}


async def test_a_request_that_is_wrong_anyway_reads_no_link(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as server:
        link = by_link(server.link("cat"))
        with pytest.raises(InvalidRequest):
            await desk.submit(references=(link,), prompt="")
        assert await faults(desk, link, DraftReference(kind="data", data=b"no picture")) == {
            "reference_images[1].data": "is no picture; allowed: PNG, JPEG, WEBP, GIF, BMP, TIFF"
        }
        desk.submits._queue_max_depth = 0
        with pytest.raises(QueueFull):
            await desk.submit(references=(link,))
        assert server.asked.total() == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [({"prompt": ""}, ["prompt"]), ({"seed": -5, "model": "unknown"}, ["seed"]), ({"model": "unknown"}, [])],
)
async def test_all_that_shows_without_asking_anybody_is_told_at_once(
    desk: Desk, change: dict[str, object], told: list[str]
) -> None:
    async with PictureServer() as server:
        references = (
            by_link("ftp://h/a.png"),
            by_link(server.link("none")),
            DraftReference(kind="data", data=b"no picture"),
            DraftReference(),
        )
        with pytest.raises(InvalidRequest) as caught:
            await desk.submit(draft=replace(GOOD, references=references, **change))
        assert server.asked.total() == 0
    places = ["reference_images[0].url", "reference_images[2].data", "reference_images[3]"]
    assert [v.field for v in caught.value.violations] == [*told, *places]


async def test_bytes_are_judged_by_the_rules_of_a_model_that_other_fields_do_not_fit(desk: Desk) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "teal").save(file, "GIF")
    with pytest.raises(InvalidRequest) as caught:
        await desk.submit(
            references=(DraftReference(kind="data", data=file.getvalue()),),
            model="doubao-seededit-3.0-i2i",
            size="",
            prompt="",
        )
    assert [(v.field, v.description) for v in caught.value.violations] == [
        ("prompt", "is required: 1 to 4,000 characters"),
        ("reference_images[0].data", "is GIF; allowed: JPEG, PNG"),
    ]


async def test_without_an_output_store_nothing_is_accepted(desk: Desk) -> None:
    async with PictureServer(cat=CAT) as server:
        desk.output_faults.away = True
        with pytest.raises(StoreUnavailable):
            await desk.submit(references=(by_link(server.link("cat")),) * 3)
        assert await desk.live() == []
        desk.output_faults.wake()
        assert (await desk.submit(references=(by_link(server.link("cat")),))).request.references


# --- bytes and earlier outputs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
async def test_the_formats_that_vendors_read_are_taken(desk: Desk, name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "teal").save(file, name)
    reference = DraftReference(kind="data", data=file.getvalue())
    assert (await desk.submit(references=(reference,))).request.references == (kept(file.getvalue()),)


async def test_big_tiff_is_refused_before_a_vendor_has_to(desk: Desk) -> None:
    width, height, bits, strip, length = ((256, 20), (257, 20), (258, 8), (273, 192), (279, 400))
    fields = [(tag, 4, 1, value) for tag, value in (width, height, bits, strip, length)]
    head = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(fields))
    rows = b"".join(struct.pack("<HHQQ", *field) for field in fields)
    picture = (head + rows).ljust(192, b"\0") + bytes(400)
    with Image.open(io.BytesIO(picture)) as read:
        assert (read.format, read.size) == ("TIFF", (20, 20))
    found = await faults(desk, DraftReference(kind="data", data=picture))
    assert "like BigTIFF" in found["reference_images[0].data"]


@pytest.mark.parametrize("name", ["PPM", "ICO", "PCX", "TGA"])
async def test_other_formats_are_not(desk: Desk, name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "teal").save(file, name)
    found = await faults(desk, DraftReference(kind="data", data=file.getvalue()))
    assert "is no picture" in found["reference_images[0].data"]


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
async def test_broken_bytes_are_refused_or_taken_and_nothing_else(desk: Desk, name: str) -> None:
    """Whatever is sent: no other exception gets out of the readers."""
    file = io.BytesIO()
    Image.effect_noise((40, 40), 50).convert("RGB").save(file, name)
    rng = random.Random(name)
    refused = 0
    for _ in range(100):
        data = bytearray(file.getvalue()[: rng.choice((20, 60, 200, 100_000))])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(min(len(data), 200))] = rng.randrange(256)
        try:
            await desk.submit(references=(DraftReference(kind="data", data=bytes(data)),))
        except InvalidRequest:
            refused += 1
    assert refused > 10


async def made(desk: Desk, **changes: object) -> Task:
    """A task that has image 0; `changes` are fields of the image."""
    task = await desk.submit()
    write, marked = life.mark(task, worker="worker-1", provider="local", paid=False, now_ms=now_ms())
    assert await desk.store.write(write)
    one = replace(image(), **changes)
    assert await desk.store.write(with_images(attempt_writes.complete(marked, now_ms()), [one]))
    return task


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size_bytes": MAX_REFERENCE_BYTES + 1}, "has 10,485,761 bytes"),
        ({"width_px": 8_000, "height_px": 8_000}, "at most 36,000,000"),
        ({"width_px": 17 * 64, "height_px": 64}, "at most 16 times"),
    ],
)
async def test_an_earlier_output_has_to_keep_to_the_same_limits(
    desk: Desk, changes: dict[str, object], told: str
) -> None:
    task = await made(desk, **changes)
    with pytest.raises(InvalidRequest, match=told) as caught:
        await desk.submit(references=(DraftReference(kind="output", task_id=task.id, index=0),))
    assert [v.field for v in caught.value.violations] == ["reference_images[0].output"]


async def test_an_earlier_output_has_to_be_what_the_model_takes(desk: Desk) -> None:
    task = await made(desk, mime_type="image/webp")
    reference = DraftReference(kind="output", task_id=task.id, index=0)
    with pytest.raises(InvalidRequest) as caught:
        await desk.submit(references=(reference,), model="doubao-seededit-3.0-i2i", size="")
    assert [(v.field, v.description) for v in caught.value.violations] == [
        ("reference_images[0].output", "is WEBP; allowed: JPEG, PNG")
    ]
    assert (await desk.submit(references=(reference,))).request.references == (image().key,)
