"""A provider whose calls do what a test says, and the pictures it makes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from functools import cache

from PIL import Image

from server.domain.errors import Reason, TaskError
from server.providers.contract import (
    Generation,
    ImageFailed,
    MadeImage,
    Progress,
    ProviderError,
    Receipt,
    Sent,
)

Script = Callable[[Generation, Progress], Awaitable[None]]
"""One call: hands images to the progress, and returns or raises as the call is to end."""


class ScriptedProvider:
    """Plays one script per call, the last one again and again."""

    def __init__(
        self, *scripts: Script, name: str = "local", paid: bool = False, capacity: int = 100
    ) -> None:
        self._scripts = scripts
        self.name = name
        self.paid = paid
        self.capacity = capacity
        self.groups = True
        self.calls: list[Generation] = []
        """What was asked for, call by call."""
        self.running = 0
        self.most_running = 0

    async def generate(
        self,
        generation: Generation,
        *,
        timeout_s: float,
        progress: Progress,
        receipt: Receipt,
        resume: str = "",
    ) -> None:
        """See Provider."""
        script = self._scripts[min(len(self.calls), len(self._scripts) - 1)]
        self.calls.append(generation)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await script(generation, progress)
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        """See Provider."""


@cache
def picture(image_format: str = "PNG", width_px: int = 64, height_px: int = 48) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((width_px, height_px))
    gradient.convert("RGB").save(file, image_format)
    return file.getvalue()


def made(index: int = 0, data: bytes | None = None) -> MadeImage:
    """An image as it comes from a provider; its seed is its index."""
    return MadeImage(index=index, data=picture() if data is None else data, seed=index)


async def makes_all(generation: Generation, progress: Progress) -> None:
    """Every wanted image."""
    for index in generation.indexes:
        await progress(made(index))


def makes(*indexes: int, then: Exception | None = None, data: bytes | None = None) -> Script:
    """These images; then the call ends, or fails."""

    async def script(generation: Generation, progress: Progress) -> None:
        for index in indexes:
            await progress(made(index, data))
        if then is not None:
            raise then

    return script


def makes_all_but(*indexes: int, reason: Reason = Reason.CONTENT_POLICY_OUTPUT) -> Script:
    """Every wanted image but these, each of which is refused."""

    async def script(generation: Generation, progress: Progress) -> None:
        for index in generation.indexes:
            if index not in indexes:
                await progress(made(index))
        error = TaskError(reason=reason, message="This image was refused.")
        for index in indexes:
            await progress(ImageFailed(index=index, error=error))

    return script


def raises(error: BaseException) -> Script:
    """The call fails at once."""

    async def script(generation: Generation, progress: Progress) -> None:
        raise error

    return script


def waits_for(event: asyncio.Event, then: Script = makes_all) -> Script:
    """The call hangs until the event."""

    async def script(generation: Generation, progress: Progress) -> None:
        await event.wait()
        return await then(generation, progress)

    return script


def refusal(
    *,
    sent: Sent = Sent.REJECTED,
    reason: Reason = Reason.PROVIDER_UNAVAILABLE,
    retryable: bool = True,
    retry_after_s: float | None = 0.0,
    no_capacity: bool = False,
) -> ProviderError:
    """What a provider says when a call fails."""
    return ProviderError(
        "It did not work.",
        sent=sent,
        reason=reason,
        retryable=retryable,
        retry_after_s=retry_after_s,
        no_capacity=no_capacity,
    )
