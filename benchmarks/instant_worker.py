"""The service's worker with a provider that takes no time: what remains is the service's own work.

`python -m benchmarks.instant_worker STAMPS --ready-fd FD` takes its settings from the environment, as
`python -m server worker` does, and runs the same worker: claim, attempt row, verified picture, output file,
end in the store, end in the queue. Only the provider is another one, under the local one's name.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
from collections.abc import Mapping
from functools import partial

from PIL import Image

from benchmarks.stamps import StampFile
from server.__main__ import begin_logs, serve
from server.app import run_worker
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


def main() -> int:
    """Run until SIGTERM; the exit code is the service's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stamps")
    parser.add_argument("--ready-fd", type=int, required=True)
    arguments = parser.parse_args()
    stamps = StampFile(arguments.stamps)

    def instant(_: Settings) -> Mapping[str, Provider]:
        return {LOCAL: InstantProvider(stamps)}

    settings = load()
    begin_logs(settings, "worker")
    run = partial(run_worker, open_providers=instant)
    return asyncio.run(serve(run, settings, arguments.ready_fd))


if __name__ == "__main__":
    sys.exit(main())
