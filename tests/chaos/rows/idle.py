"""Nothing happens, and nothing is what it costs."""

from __future__ import annotations

import asyncio

from tests.chaos.load import new_request, submit
from tests.chaos.run import Run

MOST_CPU = 0.01
MOST_CPU_SHORT = 0.05
"""What is left of a start shows in a few seconds."""


async def idle(run: Run) -> None:
    """Five minutes at the default lease: no restart, no error, no more than a hundredth of a core each."""
    seconds = 3.0 if run.short else 300.0
    async with run.deployed(workers=2, lease_s=15.0) as deployment:
        await deployment.all_ended([await submit(deployment, new_request(max_paid=2))], within_s=30)
        await asyncio.sleep(1.0)  # what a start leaves to do
        processes = [*deployment.apis, *deployment.workers]
        before = [process.cpu_s() for process in processes]
        await asyncio.sleep(seconds)
        shares = [(p.cpu_s() - cpu_s) / seconds for p, cpu_s in zip(processes, before, strict=True)]
        most = MOST_CPU_SHORT if run.short else MOST_CPU
        run.notes += [f"{p.role}: {share:.2%} of a core" for p, share in zip(processes, shares, strict=True)]
        for process, share in zip(processes, shares, strict=True):
            if share > most:
                run.broken(f"an idle {process.role} is busy", f"{share:.2%} of a core")
        for error in deployment.errors():
            run.broken("an error was logged", error)
        run.repetitions = 1
        await run.settle(deployment, never_in_doubt=True)
