"""The service's worker with a provider that takes no time: what remains is the service's own work.

`python -m benchmarks.instant_worker STAMPS --ready-fd FD` takes its settings from the environment, as
`python -m server worker` does, and runs the same worker: claim, attempt row, verified picture, output file,
end in the store, end in the queue. Only the provider is another one, under the local one's name.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
from collections.abc import Mapping

from PIL import Image

from benchmarks.stamps import StampFile
from server import logs
from server.app import Listening, run_worker
from server.domain.catalogue import LOCAL
from server.providers.contract import Generation, MadeImage, Progress, Provider, Receipt
from server.settings import Settings, load

SIDE_PX = 8


class InstantProvider:
    """Hands over one small picture from memory, and notes when it was asked."""

    name = LOCAL
    paid = False
    groups = True
    capacity = 1000

    def __init__(self, stamps: StampFile) -> None:
        self._stamps = stamps
        file = io.BytesIO()
        Image.new("RGB", (SIDE_PX, SIDE_PX), "teal").save(file, "PNG")
        self._data = file.getvalue()

    async def generate(
        self,
        generation: Generation,
        *,
        timeout_s: float,
        progress: Progress,
        receipt: Receipt,
        resume: str = "",
    ) -> None:
        """Every image at once."""
        self._stamps.stamp()
        for index in generation.indexes:
            await progress(MadeImage(index=index, data=self._data, seed=generation.request.seed))

    async def aclose(self) -> None:
        """Let go of the file."""
        self._stamps.close()


async def _serve(settings: Settings, stamps: StampFile, ready_fd: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def on_ready(listening: Listening) -> None:
        with os.fdopen(ready_fd, "w") as file:
            json.dump({"grpc_port": listening.grpc_port, "http_port": listening.http_port}, file)
            file.write("\n")

    def instant(settings: Settings) -> Mapping[str, Provider]:
        return {LOCAL: InstantProvider(stamps)}

    await run_worker(settings, stop, on_ready, instant)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stamps")
    parser.add_argument("--ready-fd", type=int, required=True)
    arguments = parser.parse_args()
    settings = load()
    logs.configure(
        level=settings.log_level,
        form=settings.log_format,
        directory=settings.log_dir,
        keep_days=settings.log_keep_days,
        app=settings.app_name,
        version=settings.app_version,
        role="worker",
    )
    asyncio.run(_serve(settings, StampFile(arguments.stamps), arguments.ready_fd))


if __name__ == "__main__":
    main()
