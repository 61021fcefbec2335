"""What a vendor made outlasts the vendor's link: it is served from our own store, under our own link."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

from msgspec.structs import replace

from server.domain.request import Size
from server.domain.task import TaskState
from server.health import Health
from server.links import Links
from server.providers.ark import ArkProvider
from server.providers.contract import Generation
from server.providers.fetch import OutputFetcher
from server.side_port import OUTPUTS_PATH, SidePort
from server.store.output_links import link_secret, seconds_left
from tests.fakes_store import make_task
from tests.integration.worker.bench import Bench
from tests.side_port import Answer, fetch
from tests.upstreams import ArkUpstream
from tests.waiting import until_async

MODEL = "doubao-seedream-4-0-250828"
HOUR_MS = 3_600_000


class NotingFetcher(OutputFetcher):
    """Remembers what lay behind each of the vendor's links, which nothing else shows."""

    def __init__(self) -> None:
        super().__init__(allow_private=True)
        self.fetched: dict[str, bytes] = {}

    async def fetch(self, link: str, *, timeout_s: float) -> bytes:
        self.fetched[link] = await super().fetch(link, timeout_s=timeout_s)
        return self.fetched[link]


class ArkByName(ArkProvider):
    """Asks for MODEL, which the loopback knows, whatever it is called on the bench."""

    async def generate(self, generation: Generation, **how: Any) -> None:
        return await super().generate(replace(generation, upstream_model=MODEL), **how)


async def test_an_hour_after_the_vendors_link_is_dead_the_image_is_served_byte_for_byte(bench: Bench) -> None:
    async with ArkUpstream() as ark:
        ark.link_life_s = 1.0
        fetcher = NotingFetcher()
        provider = ArkByName(api_key="any", base_url=ark.base_url, fetcher=fetcher)
        request = replace(make_task("any").request, size=Size(width_px=1024, height_px=1024))
        await bench.accept(provider="ark", model=MODEL, request=request)
        task = await bench.run(bench.execution(provider))
        await provider.aclose()
        assert task.state is TaskState.COMPLETED
        [(vendors_link, from_vendor)] = fetcher.fetched.items()

        async def dead() -> Answer | None:
            answer = await fetch(vendors_link)
            return answer if answer.status == 403 else None

        await until_async(dead, within_s=10, what="the end of the vendor's link")

    side = SidePort(health=Health(), metrics=bench.metrics)
    port = await side.start("127.0.0.1", 0)
    links = Links(
        base_url=f"http://127.0.0.1:{port}{OUTPUTS_PATH}",
        secret=await link_secret(bench.outputs),
        lifetime_s=2 * 3600,
        now_ms=bench.now_ms,
    )
    side.serve(bench.outputs, partial(seconds_left, links))
    image = task.images[0]
    minted = links.mint(image.key)
    bench.time_shift_ms = HOUR_MS
    for url in (minted.url, links.mint(image.key).url):  # the first answer's link, and a new one
        served = await fetch(url)
        assert (served.status, served.body) == (200, from_vendor)
        assert hashlib.sha256(served.body).hexdigest() == image.sha256
        assert served.headers["Content-Type"] == image.mime_type
    bench.time_shift_ms = 3 * HOUR_MS
    assert (await fetch(minted.url)).status == 410
    assert (await fetch(links.mint(image.key).url)).body == from_vendor
    await side.stop()
