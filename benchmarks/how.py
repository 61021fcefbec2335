"""How the figures of a report were made, of whatever is in it."""

from __future__ import annotations

import textwrap

from benchmarks.latencies import FEWEST_FOR_P99
from benchmarks.rounds import Results

WIDTH = 110

GENERAL = """Figures are min / **median** / max over the rounds; one alone was taken once. A ratio is taken
within each round, against the contender with the best median; the verdict is on the median, or on the figure
of all rounds' samples together where that stands beside it."""

WORKER = """Worker: the queue is filled while no worker runs. What our sweep does once for the first worker of
a new Redis, a walk over all that waits, is done beforehand and not in the figures. The rate counts from when
the slots are full to the last task's entry; CPU is user and system time of the worker's processes, or of
Redis, meanwhile, over the tasks entered meanwhile. Peers' tasks only note their moment. Ours are refused by
their provider at once, after the claim and the attempt's row, and end in store and queue: that is the line
that is compared. What a kept picture costs in addition is the line beside it."""

PICK_UP = f"""Pick-up: one task at a time, to its entry, from the submit's return; below zero: a worker was
there before it had returned. Ours is a gRPC call that writes the store first, a peer's one command of Redis:
the time from before the submit stands beside. The p99 is that of all rounds' samples together; with fewer
than {FEWEST_FOR_P99}, as of who polls slowly, there is none."""

REDIS = """Redis runs on the same machine, without persistence, and is reached over its Unix socket; queues
that are compared use the same one, emptied before each round."""

STORE = """Our store is SQLite with synchronous=NORMAL: what was answered survives the end of any process; the
last moments before a power cut may not."""

SYNC = """GenerateImage over a provider that takes a second: as its callers see it. Each makes one call
after the other, a small picture each, and they began evenly spread over a second; or all make one call in
the same moment. The bounds are the same."""

CORES = """Two processes of one api share the port. Load generator, Redis and store take their part of the
same cores, so on two of them the ratio cannot reach 2: what each kept busy is told. Many connections, for
they are what is shared out; the Python client has but one, so without h2load there is no verdict."""

START = """Start: from the start of the process to the answer of a GetTask over a new connection, then some
seconds without a call until its memory is read, and that of the other parts likewise. A first start, not
counted, warms the disk."""

WAITS = """Open calls: GenerateImage, and no worker. They are opened once; a round is a window of seconds
that holds a poll of the store. Lag is that of moments due every 10 ms on the process's own event loop, each
with its own lateness. Other calls come from another process by the clock, 20 GetTask and 2
GenerateImageAsync a second; what has no answer after 5 s counts as not answered."""

GROWTH = """Growth: tasks are brought in by the service's own store and queue, as a backlog of the last day.
Few and many in turn, each as many as the row says when its round begins. The API is measured without a
worker: GetTask of tasks from anywhere in the backlog, sent by a Python client on both sides, for h2load can
send but one; its own cost pulls the ratio towards 1, so the API's CPU stands beside it. GenerateImageAsync is
of 20 callers in turn. Then a worker without the API, from its start, for seconds or until nothing waits: its
sweep compares queue and store meanwhile, a page after the other."""


def how(results: Results) -> list[str]:
    """The lines, without a heading."""
    told = {
        CORES: bool(results.scalings),
        WORKER: bool(results.work),
        PICK_UP: bool(results.pick_ups),
        SYNC: results.sync is not None,
        START: bool(results.starts),
        WAITS: results.waits is not None,
        GROWTH: results.growth is not None,
    }
    items = [REDIS, STORE, *(text for text, measured in told.items() if measured)]
    if results.soak is not None:
        items.append(
            f"Soak: one run of {results.soak.calls:,} GenerateImage calls, by the clock, at half of the "
            f"{results.soak.full_calls_per_s:.0f} calls/s that API and worker had borne for seconds before. "
            "Memory is what is resident (VmRSS): medians of the second and of the last fifth of the samples."
        )
    return [
        *textwrap.wrap(GENERAL, WIDTH),
        "",
        *(
            line
            for text in items
            for line in textwrap.wrap(text, WIDTH, initial_indent="- ", subsequent_indent="  ")
        ),
    ]
