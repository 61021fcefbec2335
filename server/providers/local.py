"""The local provider: draws pictures itself, deterministically, without any key. Its calls cost nothing."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from server.domain.errors import Reason
from server.providers.contract import (
    Generation,
    MadeImage,
    Progress,
    ProviderError,
    Receipt,
    Sent,
)
from server.providers.painter import UnreadableReference, paint


class LocalProvider:
    """Draws in threads, one per processor: Pillow lets go of the interpreter for most of the work."""

    name = "local"
    paid = False
    groups = True

    def __init__(self) -> None:
        self.capacity = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        self._threads = ThreadPoolExecutor(self.capacity, thread_name_prefix="paint")

    async def generate(
        self,
        generation: Generation,
        *,
        timeout_s: float,  # noqa: ARG002
        progress: Progress,
        receipt: Receipt,  # noqa: ARG002
        resume: str = "",  # noqa: ARG002
    ) -> None:
        """Draw the wanted images one after the other. The worker watches the time: an image takes seconds."""
        for index in generation.indexes:
            data = await self._draw(generation, index)
            await progress(MadeImage(index=index, data=data, seed=generation.request.seed))

    async def _draw(self, generation: Generation, index: int) -> bytes:
        request = generation.request
        try:
            picture = await asyncio.get_running_loop().run_in_executor(
                self._threads,
                lambda: paint(
                    prompt=request.prompt,
                    seed=request.seed,
                    width_px=request.size.width_px,
                    height_px=request.size.height_px,
                    index=index,
                    count=request.max_images,
                    references=generation.references,
                    guidance_scale=request.guidance_scale,
                    negative_prompt=request.negative_prompt,
                    watermark=request.watermark,
                    image_format=request.output_format.value,
                ),
            )
        except UnreadableReference as error:
            raise ProviderError(
                str(error),
                sent=Sent.REJECTED,
                reason=Reason.REFERENCE_UNAVAILABLE,
                retryable=False,
                metadata={"field": f"reference_images[{error.index}]"},
            ) from error
        return picture.data

    async def aclose(self) -> None:
        """Drop what is queued; a drawing under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
