"""Reference images: whatever way a request names them, they are kept before its task is.

A link is read here, once, at acceptance, and not by workers: so a retry, a take-over or another route sees
the same picture, its caller hears of a wrong link at once, and a link may be short-lived. What that costs is
bounded: all links of a request share one time, and a process reads few at once, for one caller half of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple
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
"""Links that a process reads at the same time, of at most 10 MiB each."""
READ_AT_ONCE_FOR_ONE = READ_AT_ONCE // 2
"""Of these, for one caller: links that hang keep nobody else's from being read."""
BUSY_RETRY_S = 5.0
_KINDS = {"MPO": "JPEG"}
"""Of what Pillow tells apart and others do not: a JPEG file of which some cameras put more pictures."""
_ADVICE = "send a link that works now, or the picture as `data`"


class _Kept(NamedTuple):
    """A picture read from a link: its key in the output store, and how long it is."""

    key: str
    size_bytes: int


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
        self._room = asyncio.Semaphore(READ_AT_ONCE)
        # By caller; each lives as long as somebody holds or awaits a place of it.
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def fault(self, reference: DraftReference, rules: ReferenceRules) -> str | None:
        """See `server.domain.admission.Look`. May take some milliseconds of a processor."""
        if reference.kind == "data":
            return picture_fault(reference.data, rules)
        try:
            self._downloads.check(reference.url)
        except DownloadFailed as error:
            return f"{error.what}; {_ADVICE}"
        return None

    async def earlier(self, draft: Draft, caller: str, rules: ReferenceRules) -> Mapping[int, StoredImage]:
        """The earlier outputs that the draft names, by place, which keep to the rules of the model.

        Raises InvalidRequest with every violation, also for too many bytes without the links'.
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
        if wrong:
            raise InvalidRequest(wrong)
        _check_sum(draft, found.values())
        return found

    async def keep(
        self,
        draft: Draft,
        caller: str,
        earlier: Mapping[int, StoredImage],
        *,
        rules: ReferenceRules,
        links_timeout_s: float,
    ) -> tuple[str, ...]:
        """Read the links and keep every picture; durable when it returns. `earlier` is what `earlier` gave by
        the same rules.

        Returns the pictures' keys in the output store, in the request's order.

        Raises InvalidRequest with every link that gave no picture, or for too many bytes together;
        LinksBusy when no link is at fault, but some did not get their turn in time; StoreUnavailable.
        """
        read = await self._read_links(draft, caller, rules, links_timeout_s)
        _check_sum(draft, [*earlier.values(), *read.values()])
        kept: list[str] = []
        for i, reference in enumerate(draft.references):
            known = earlier.get(i) or read.get(i)
            kept.append(known.key if known is not None else await self._keep(reference.data))
        return tuple(kept)

    async def _read_links(
        self, draft: Draft, caller: str, rules: ReferenceRules, timeout_s: float
    ) -> Mapping[int, _Kept]:
        """What lay behind the links, by place."""
        places = [i for i, reference in enumerate(draft.references) if reference.kind == "url"]
        if not places:
            return {}
        deadline = asyncio.get_running_loop().time() + timeout_s
        share = self._shares.setdefault(caller, asyncio.Semaphore(READ_AT_ONCE_FOR_ONE))
        try:
            async with asyncio.TaskGroup() as group:
                reading = [
                    group.create_task(
                        self._read(draft.references[i].url, rules, share, deadline), name="reference"
                    )
                    for i in places
                ]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        found = {i: task.result() for i, task in zip(places, reading, strict=True)}
        wrong = [_wrong(i, "url", fault) for i, fault in found.items() if isinstance(fault, str)]
        if wrong:
            raise InvalidRequest(wrong)
        read = {i: kept for i, kept in found.items() if isinstance(kept, _Kept)}
        if len(read) < len(found):
            raise LinksBusy(
                "Too many links of reference images are being read. Nothing was accepted; try again in a "
                "moment, or send the pictures as `data`.",
                metadata={"limit": "links_at_once", "limit_value": str(READ_AT_ONCE)},
                retry_after_s=BUSY_RETRY_S,
            )
        return read

    async def _read(
        self, url: str, rules: ReferenceRules, share: asyncio.Semaphore, deadline: float
    ) -> _Kept | str | None:
        """The picture behind the link, which is kept now, or what is wrong with the link.

        None if its turn did not come in time: that says nothing of the link.
        """
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout_at(deadline):
                    await held.enter_async_context(share)
                    await held.enter_async_context(self._room)
            except TimeoutError:
                return None
            try:
                left_s = deadline - asyncio.get_running_loop().time()
                data = await self._downloads.download(url, timeout_s=left_s)
                fault = await asyncio.to_thread(picture_fault, data, rules)
                if fault:
                    return f"leads to what {fault}"
                return _Kept(key=await self._keep(data), size_bytes=len(data))
            except DownloadFailed as error:
                return f"{error.what}; {_ADVICE}"

    async def _keep(self, data: bytes) -> str:
        """Keep the bytes; the key they are kept under."""
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        key = self._reference_key(digest)
        await self._outputs.put(key, data, mime_type="application/octet-stream")
        return key


def _check_sum(draft: Draft, others: Iterable[StoredImage | _Kept]) -> None:
    """Raise InvalidRequest if the bytes in the draft and those of the others are too many together."""
    sent = sum(len(reference.data) for reference in draft.references)
    if description := limits.sum_fault(sent + sum(other.size_bytes for other in others)):
        raise InvalidRequest([Violation(field="reference_images", description=description)])


def picture_fault(data: bytes, rules: ReferenceRules) -> str | None:
    """What is wrong with a picture, by its head; whether the rest decodes is its reader's to say."""
    try:
        with Image.open(io.BytesIO(data), formats=limits.FORMATS) as picture:
            kind, (width, height) = picture.format or "", picture.size
    except Image.DecompressionBombError:
        return f"has too many pixels; allowed: at most {rules.max_area_px:,} in all"
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return f"is no picture; allowed: {', '.join(rules.formats)}"
    return rules.fault(kind=_KINDS.get(kind, kind), size_bytes=len(data), width_px=width, height_px=height)


def _wrong(place: int, name: str, description: str) -> Violation:
    return Violation(field=f"reference_images[{place}].{name}", description=description)
