"""Reference images: whatever way a request names them, they are kept before its task is.

A link is read here, once, at acceptance, and not by workers: so a retry, a take-over or another route sees
the same picture, its caller hears of a wrong link at once, and a link may be short-lived. What that costs is
bounded: all links of a request share one time, and a process reads few at once, for one caller half of them.
Outputs cannot be taken back: what links gave stays in memory until the whole request is known to be good,
of as few requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from weakref import WeakValueDictionary

from PIL import Image, UnidentifiedImageError

from server.domain import references as limits
from server.domain.admission import Draft, DraftReference
from server.domain.errors import InvalidRequest, LinksBusy, Violation
from server.domain.references import ReferenceRules
from server.domain.task import StoredImage
from server.ports import DownloadFailed, Downloads, OutputStore, TaskStore

LINKS_S = 10.0
"""The most that the links of one request may take."""
READ_AT_ONCE = 16
"""Links that a process reads at the same time, of at most 10 MiB each; requests whose pictures it holds."""
READ_AT_ONCE_FOR_ONE = READ_AT_ONCE // 2
"""Of these, for one caller: links that hang keep nobody else's from being read."""
NO_WAIT_S = 0.25
"""A turn that comes sooner is no late one, however short the time is."""
BUSY_RETRY_S = 5.0
_CLASSIC_TIFF = (b"II*\x00", b"MM\x00*")
_ADVICE = "send a link that works now, or the picture itself"


class _Room:
    """So many links may be read at once, and pictures of so many requests held."""

    def __init__(self, most: int) -> None:
        self.links = asyncio.Semaphore(most)
        self.requests = asyncio.Semaphore(most)


class _Found:
    """What the links of one request have led to, within its time."""

    def __init__(self, size_bytes: int, misshapen: Mapping[int, Violation], *, timeout_s: float) -> None:
        now = asyncio.get_running_loop().time()
        self.deadline = now + timeout_s
        self.late_from = now + max(timeout_s / 2, NO_WAIT_S)
        """Where the first link gets its turn later, what then runs out of time might have been good."""
        self.began = math.inf
        """When the first link got its turn; the others waited for it."""
        self.size_bytes = size_bytes
        """Of all references; at first of those that are no links."""
        self.pictures: dict[int, bytes] = {}
        """By place; none any more once all are too many bytes together."""
        self.faults = dict(misshapen)
        """By place; links that are among them at first are not read."""
        self.late = False
        """Some did not get their turn in time, or too late, which says nothing of them."""

    def add(self, place: int, picture: bytes) -> None:
        """Hold the picture, unless that is too much."""
        self.size_bytes += len(picture)
        self.pictures[place] = picture
        if limits.sum_fault(self.size_bytes):
            self.pictures.clear()


class References:
    """Checks the references of requests, and keeps their bytes in the output store by their hash."""

    def __init__(
        self,
        *,
        store: TaskStore,
        outputs: OutputStore,
        downloads: Downloads,
        reference_key: Callable[[str], str],
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._downloads = downloads
        self._reference_key = reference_key
        self._room = _Room(READ_AT_ONCE)
        # By caller; each lives as long as somebody holds or awaits a place of it.
        self._shares: WeakValueDictionary[str, _Room] = WeakValueDictionary()

    def fault(self, reference: DraftReference, rules: ReferenceRules) -> str | None:
        """See `server.domain.admission.Look`. May take some milliseconds of a processor."""
        if reference.kind == "data":
            return picture_fault(reference.data, rules)
        try:
            self._downloads.check(reference.url)
        except DownloadFailed as error:
            return f"{error.what}; {_ADVICE}"
        return None

    async def earlier(
        self, draft: Draft, caller: str, rules: ReferenceRules, misshapen: Mapping[int, Violation]
    ) -> Mapping[int, StoredImage]:
        """The earlier outputs that the draft names, by place, which keep to the rules of the model.

        Raises InvalidRequest with every violation, also for too many bytes without the links', unless those
        of `misshapen` are all there are.
        """
        wanted = {r.task_id for r in draft.references if r.kind == "output"}
        tasks = await self._store.get_many(sorted(wanted)) if wanted else {}
        found: dict[int, StoredImage] = {}
        wrong: list[Violation] = []
        for i, reference in enumerate(draft.references):
            if reference.kind == "output":
                task = tasks.get(reference.task_id)
                image = task.images.get(reference.index) if task is not None else None
                if task is None or task.caller != caller:  # another caller's looks like none
                    wrong.append(_wrong(i, "output.task_id", f"there is no task {reference.task_id!r}"))
                elif image is None:
                    wrong.append(_wrong(i, "output.index", f"task {task.id} has no image {reference.index}"))
                elif description := rules.fault(
                    kind=limits.kind_of(image.mime_type),
                    size_bytes=image.size_bytes,
                    width_px=image.width_px,
                    height_px=image.height_px,
                ):
                    wrong.append(_wrong(i, "output", description))
                else:
                    found[i] = image
            elif i in misshapen:
                wrong.append(misshapen[i])
        wrong = [*_sum_violations(_size_without_links(draft, found)), *wrong]
        if len(wrong) > len(misshapen):
            raise InvalidRequest(wrong)
        return found

    async def keep(
        self,
        draft: Draft,
        caller: str,
        earlier: Mapping[int, StoredImage],
        *,
        rules: ReferenceRules,
        misshapen: Mapping[int, Violation],
        links_timeout_s: float,
    ) -> tuple[str, ...]:
        """Read the links and keep every picture; durable when it returns. `earlier` is what `earlier` gave by
        the same rules; links that are `misshapen` are not read.

        Returns the pictures' keys in the output store, in the request's order.

        Raises InvalidRequest with every link that gives no picture and for too many bytes together, LinksBusy
        when no more is wrong than that some links did not get their turn in time, or so late that there was
        not enough left, either before anything is kept; StoreUnavailable.
        """
        share = self._shares.setdefault(caller, _Room(READ_AT_ONCE_FOR_ONE))
        size_bytes = _size_without_links(draft, earlier)
        found = _Found(size_bytes, misshapen, timeout_s=links_timeout_s)
        links = [
            (i, reference.url)
            for i, reference in enumerate(draft.references)
            if reference.kind == "url" and i not in misshapen
        ]
        async with AsyncExitStack() as held:
            if links:
                if await _entered(held, share.requests, self._room.requests, deadline=found.deadline):
                    async with asyncio.TaskGroup() as group:
                        for i, link in links:
                            reading = self._read(i, link, rules, share, found)
                            group.create_task(reading, name="reference")
                else:
                    found.late = True
            wrong = [found.faults[place] for place in sorted(found.faults)]
            if wrong := [*_sum_violations(found.size_bytes), *wrong]:
                raise InvalidRequest(wrong)
            if found.late:
                raise LinksBusy(
                    "Too many links of reference images are being read. Nothing was accepted; try again in a "
                    "moment, or send the pictures themselves.",
                    metadata={"limit": "links_at_once", "limit_value": str(READ_AT_ONCE)},
                    retry_after_s=BUSY_RETRY_S,
                )
            return tuple(
                [
                    earlier[i].key
                    if i in earlier
                    else await self._keep(found.pictures.get(i, reference.data))
                    for i, reference in enumerate(draft.references)
                ]
            )

    async def _read(self, place: int, url: str, rules: ReferenceRules, share: _Room, found: _Found) -> None:
        """Put down the picture behind the link, or what is wrong with the link."""
        async with AsyncExitStack() as held:
            if not await _entered(held, share.links, self._room.links, deadline=found.deadline):
                found.late = True
                return
            clock = asyncio.get_running_loop().time
            began = clock()
            found.began = min(found.began, began)
            try:
                picture = await self._downloads.download(url, timeout_s=found.deadline - began)
            except DownloadFailed as error:
                if error.retryable and found.began >= found.late_from and clock() >= found.deadline:
                    found.late = True
                    return
                found.faults[place] = _wrong(place, "url", f"{error.what}; {_ADVICE}")
                return
            if fault := await asyncio.to_thread(picture_fault, picture, rules):
                found.faults[place] = _wrong(place, "url", f"leads to what {fault}")
            else:
                found.add(place, picture)

    async def _keep(self, data: bytes) -> str:
        """Keep the bytes; the key they are kept under."""
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        key = self._reference_key(digest)
        await self._outputs.put(key, data, mime_type="application/octet-stream")
        return key


async def _entered(held: AsyncExitStack, *rooms: asyncio.Semaphore, deadline: float) -> bool:
    """Whether there was room by the deadline; `held` lets go of it."""
    try:
        async with asyncio.timeout_at(deadline):
            for room in rooms:
                await held.enter_async_context(room)
    except TimeoutError:
        return False
    return True


def _size_without_links(draft: Draft, earlier: Mapping[int, StoredImage]) -> int:
    sent = sum(len(reference.data) for reference in draft.references)
    return sent + sum(image.size_bytes for image in earlier.values())


def _sum_violations(size_bytes: int) -> list[Violation]:
    """What is wrong with references that have so many bytes together."""
    description = limits.sum_fault(size_bytes)
    return [Violation(field="reference_images", description=description)] if description else []


def picture_fault(data: bytes, rules: ReferenceRules) -> str | None:
    """What is wrong with a picture, by its head; whether the rest decodes is its reader's to say."""
    try:
        with Image.open(io.BytesIO(data), formats=limits.FORMATS) as picture:
            kind, (width, height) = picture.format or "", picture.size
    except Image.DecompressionBombError:
        return f"has too many pixels; allowed: at most {rules.max_area_px:,} in all"
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return f"is no picture; allowed: {', '.join(rules.formats)}"
    if kind == "TIFF" and not data.startswith(_CLASSIC_TIFF):
        return "is a TIFF of a form that vendors do not read, like BigTIFF; send a classic one, or PNG"
    return rules.fault(
        kind=limits.SAME_FORMAT.get(kind, kind), size_bytes=len(data), width_px=width, height_px=height
    )


def _wrong(place: int, name: str, description: str) -> Violation:
    return Violation(field=f"reference_images[{place}].{name}", description=description)
