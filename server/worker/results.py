"""A worker's note of an image that is kept but not yet in its task: whoever takes over finds it there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from server.domain.purchases import paid_or_open_calls
from server.domain.task import StoredImage, Task
from server.ports import OutputStore
from server.worker.holding import until_kept


async def keep_result(outputs: OutputStore, key: str, image: StoredImage) -> None:
    """Write the note beside the image's bytes; durable when it returns."""
    note = json.dumps(asdict(image), separators=(",", ":")).encode()
    await until_kept(lambda: outputs.put(key, note, mime_type="application/json"))


async def find_results(
    outputs: OutputStore, task: Task, result_key: Callable[[str, int, int], str]
) -> list[StoredImage]:
    """The missing images that the newest attempt had kept; only what was paid for leaves such notes."""
    found: list[StoredImage] = []
    if task.attempt not in task.attempts or not paid_or_open_calls(task):
        return found
    for index in task.missing_images:
        key = result_key(task.id, task.attempt, index)
        note = await until_kept(lambda key=key: outputs.get(key))  # type: ignore[misc]
        if note is not None:
            found.append(StoredImage(**json.loads(note.data)))
    return found
