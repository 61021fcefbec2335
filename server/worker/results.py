"""A worker's note of an image that is kept but not yet in its task: whoever takes over finds it there."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from server.domain.purchases import paid_or_open_calls
from server.domain.task import StoredImage, Task
from server.ports import OutputStore
from server.worker.holding import until_kept

_log = structlog.get_logger(__name__)


async def keep_result(outputs: OutputStore, key: str, image: StoredImage) -> None:
    """Write the note beside the image's bytes; durable when it returns."""
    note = msgspec.json.encode(image)
    await until_kept(lambda: outputs.put(key, note, mime_type="application/json"))


async def find_results(
    outputs: OutputStore, task: Task, result_key: Callable[[str, int, int], str]
) -> list[StoredImage]:
    """The missing images that the newest attempt had kept; only what was paid for leaves such notes.

    A note that cannot be read counts as none: it must not hold up its task for ever.
    """
    found: list[StoredImage] = []
    if task.attempt not in task.attempts or not paid_or_open_calls(task):
        return found
    for index in task.missing_images:
        key = result_key(task.id, task.attempt, index)
        note = await until_kept(lambda key=key: outputs.get(key))  # type: ignore[misc]
        if note is None:
            continue
        image = _read(note.data)
        if image is None or image.index != index:
            _log.error("a result note cannot be read; going on without it", task_id=task.id, key=key)
        else:
            found.append(image)
    return found


def _read(note: bytes) -> StoredImage | None:
    """What a note says, whatever a newer version of this program adds to it; None: it is no note of ours."""
    try:
        return msgspec.json.decode(note, type=StoredImage)
    except ValueError:  # bytes, fields, or not even an object
        return None
