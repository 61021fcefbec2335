"""`python -m tests.upstreams ark`: a loopback vendor to point a running service at. Nothing is charged."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from tests.upstreams.ark import ArkUpstream


async def serve_ark(*, port: int, delay_s: float, picture_s: float) -> None:
    """Serve until SIGINT or SIGTERM; say which settings use it, and at the end what was billed."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ArkUpstream(delay_s=delay_s, picture_s=picture_s, port=port) as upstream:
        print(f"Ark's image endpoint on {upstream.base_url}; run the service with")
        print(
            f"  IMAGE_API_KEY=any IMAGE_BASE_URL={upstream.base_url} OUTPUT_FETCH_ALLOW_PRIVATE=true",
            flush=True,
        )
        await stop.wait()
        print(
            f"{upstream.billed.total()} calls and {upstream.pictures.total()} pictures were billed, "
            f"{upstream.fetched.total()} pictures fetched"
        )


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstreams", description=__doc__)
    vendors = parser.add_subparsers(dest="vendor", required=True)
    ark = vendors.add_parser("ark", help="Volcengine Ark, POST /api/v3/images/generations")
    ark.add_argument("--port", type=int, default=0, help="0 picks a free one (default)")
    ark.add_argument("--delay", type=float, default=0.0, help="seconds an answer takes (default 0)")
    ark.add_argument(
        "--picture",
        type=float,
        default=0.0,
        help="seconds a picture of a streamed sequence takes (default 0)",
    )
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve_ark(port=arguments.port, delay_s=arguments.delay, picture_s=arguments.picture))


if __name__ == "__main__":
    main()
