"""`python -m tests.upstreams ark`, as people start it."""

from __future__ import annotations

import asyncio
import re
import signal
import sys

import aiohttp

from tests.deploy.files import ROOT


async def test_it_says_where_it_is_and_at_the_end_what_it_billed() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.upstreams", "ark", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            address = re.search(r"http://127\.0\.0\.1:\d+", (await process.stdout.readline()).decode())
            settings = (await process.stdout.readline()).decode()
            assert address is not None
            assert f"IMAGE_BASE_URL={address[0]} " in settings
            async with aiohttp.ClientSession(headers={"Authorization": "Bearer any"}) as client:
                body = {"model": "doubao-seedream-4-0-250828", "prompt": "a heron"}
                async with client.post(f"{address[0]}/api/v3/images/generations", json=body) as answer:
                    assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            rest = (await process.stdout.read()).decode()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert rest == "1 calls and 1 pictures were billed, 0 pictures fetched\n"
