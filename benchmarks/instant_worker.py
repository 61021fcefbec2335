"""The service's worker with a provider that takes no time: what remains is the service's own work.

`python -m benchmarks.instant_worker STAMPS --ready-fd FD` takes its settings from the environment, as
`python -m server worker` does, and runs the same worker: claim, attempt row, verified picture, output file,
end in the store, end in the queue. Only the provider is another one, under the local one's name. With
`--refuses` it makes no picture and says so: the task's life alone, which ends FAILED. With `--takes` it hands
its picture over after so many seconds.
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
from server.__main__ import begin_logs, run_until_stopped
from server.app import run_worker
from server.domain.catalogue import LOCAL
from server.domain.errors import Reason
from server.providers.contract import (
    Generation,
    MadeImage,
    Progress,
    Provider,
    ProviderError,
    Receipt,
    Sent,
)
from server.settings import Settings, load

SIDE_PX = 8


class InstantProvider:
    """Hands over one small picture from memory, or refuses to, and notes when it was asked."""

    name = LOCAL
    paid = False
    groups = True
    capacity = 1000

    def __init__(self, stamps: StampFile, *, refuses: bool = False, takes_s: float = 0.0) -> None:
        self._stamps = stamps
        self._refuses = refuses
        self._takes_s = takes_s
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
        """Every image at once, or none."""
        self._stamps.stamp()
        if self._refuses:
            raise ProviderError(
                "Refused, as it is asked to.",
                sent=Sent.REJECTED,
                reason=Reason.PROVIDER_REJECTED,
                retryable=False,
            )
        if self._takes_s:
            await asyncio.sleep(self._takes_s)
        for index in generation.indexes:
            await progress(MadeImage(index=index, data=self._data, seed=generation.request.seed))

    async def aclose(self) -> None:
        """Let go of the file."""
        self._stamps.close()


def main() -> int:
    """Run until SIGTERM; the exit code is the service's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stamps")
    parser.add_argument("--refuses", action="store_true")
    parser.add_argument("--takes", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--ready-fd", type=int, required=True)
    arguments = parser.parse_args()
    stamps = StampFile(arguments.stamps)

    def instant(_: Settings) -> Mapping[str, Provider]:
        provider = InstantProvider(stamps, refuses=arguments.refuses, takes_s=arguments.takes)
        return {LOCAL: provider}

    settings = load()
    begin_logs(settings, "worker")
    run = partial(run_worker, open_providers=instant)
    return run_until_stopped(run, settings, arguments.ready_fd, role="worker")


if __name__ == "__main__":
    sys.exit(main())
