"""Calls to the Ark provider, and what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from server.domain.request import ImageRequest, OutputFormat, Size
from server.providers.ark import ArkProvider
from server.providers.catalogue import load_catalogue
from server.providers.contract import Generation, ImageFailed, MadeImage, ProviderError
from server.providers.fetch import OutputFetcher
from tests.upstreams import ArkUpstream

KEY = "sk-very-secret-key"
PROMPT = "a heron in the reeds"
SEEDREAM_4 = "doubao-seedream-4-0-250828"
SEEDREAM_3 = "doubao-seedream-3-0-t2i-250415"
TIMEOUT_S = 30.0
CATALOGUE = load_catalogue()


def ark(upstream: ArkUpstream, *, allow_private: bool = True, key: str = KEY) -> ArkProvider:
    """The provider in front of this server."""
    fetcher = OutputFetcher(allow_private=allow_private)
    return ArkProvider(api_key=key, base_url=upstream.base_url, fetcher=fetcher)


def order(
    *,
    prompt: str = PROMPT,
    model: str = SEEDREAM_4,
    indexes: tuple[int, ...] = (0,),
    images: int = 1,
    size: tuple[int, int] = (2048, 2048),
    size_label: str = "",
    seed: int = 7,
    guidance_scale: float | None = None,
    negative_prompt: str = "",
    watermark: bool = False,
    output_format: OutputFormat = OutputFormat.PNG,
    references: tuple[bytes, ...] = (),
) -> Generation:
    """One image, or a sequence of up to `images`."""
    stored = "references/" + "0" * 64
    return Generation(
        task_id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
        upstream_model=model,
        parameters=CATALOGUE.route(model, "ark").parameters,
        request=ImageRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            size=Size(width_px=size[0], height_px=size[1]),
            size_label=size_label,
            seed=seed,
            guidance_scale=guidance_scale,
            watermark=watermark,
            output_format=output_format,
            references=(stored,) * len(references),
            sequence=images > 1,
            max_images=images,
        ),
        references=references,
        indexes=indexes,
    )


@dataclass
class Call:
    """One call and everything it handed over, in order."""

    steps: list[str] = field(default_factory=list)
    images: dict[int, MadeImage] = field(default_factory=dict)
    failures: list[ImageFailed] = field(default_factory=list)
    receipt: str = ""
    before_receipt: Callable[[], Awaitable[None]] | None = None

    async def make(
        self,
        provider: ArkProvider,
        generation: Generation,
        *,
        timeout_s: float = TIMEOUT_S,
        resume: str = "",
    ) -> None:
        """Make the call."""
        await provider.generate(
            generation, timeout_s=timeout_s, progress=self._keep, receipt=self._note, resume=resume
        )

    async def failure(
        self,
        provider: ArkProvider,
        generation: Generation,
        *,
        timeout_s: float = TIMEOUT_S,
        resume: str = "",
    ) -> ProviderError:
        """Make a call that fails; its error."""
        try:
            await self.make(provider, generation, timeout_s=timeout_s, resume=resume)
        except ProviderError as error:
            return error
        raise AssertionError("the call did not fail")

    async def _keep(self, image: MadeImage | ImageFailed) -> None:
        if isinstance(image, ImageFailed):
            self.failures.append(image)
            return
        self.steps.append(f"image {image.index}")
        self.images[image.index] = image

    async def _note(self, receipt: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        if self.before_receipt is not None:
            await self.before_receipt()
        self.steps.append(" ".join(("receipt", *(str(index) for index in so_far))))
        self.receipt = receipt


async def ended(task: asyncio.Task[None]) -> BaseException | None:
    """Wait for the task; what it ended with."""
    await asyncio.wait({task})
    return task.exception()
