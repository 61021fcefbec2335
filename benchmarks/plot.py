"""The figures of a run as an image, drawn by matplotlib in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from benchmarks.comparison import Spread
from benchmarks.environments import ROOT, NotInstalled, python_of
from benchmarks.latencies import FEWEST_FOR_P99, pooled
from benchmarks.rounds import Results
from benchmarks.service import OURS, OURS_WITH_PICTURE

DRAW_TIMEOUT_S = 120.0


class Bar(TypedDict):
    """One contender's figure."""

    name: str
    least: float
    median: float
    most: float
    ours: bool


class Panel(TypedDict):
    """One figure of all contenders."""

    title: str
    bars: list[Bar]


def draw(results: Results, path: Path) -> None:
    """Write the image. Raises NotInstalled when it cannot be drawn here."""
    panels = list(panels_of(results))
    try:
        done = subprocess.run(
            [str(python_of("plot")), "-m", "benchmarks.plot_svg", str(path)],
            input=json.dumps(panels),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DRAW_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"it was not drawn within {DRAW_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise NotInstalled((done.stderr.strip().splitlines() or ["matplotlib said nothing"])[-1])


def panels_of(results: Results) -> Iterator[Panel]:
    """What is drawn; a p99 only of those with samples enough for one."""
    for concurrency, work in results.work.items():
        rates = {name: [one.tasks_per_s for one in rounds] for name, rounds in work.items()}
        costs = {name: [one.cpu_ms_per_task for one in rounds] for name, rounds in work.items()}
        yield _panel(f"tasks/s, {concurrency} at once (more is better)", rates)
        yield _panel(f"CPU ms per task, {concurrency} at once (less is better)", costs)
    if results.pick_ups:
        found = {
            name: [one.since_return for one in rounds] for name, rounds in results.pick_ups.items() if rounds
        }
        p50 = {name: [one.p50_ms for one in rounds] for name, rounds in found.items()}
        yield _panel("pick-up p50, ms (less is better)", p50)
        together = {name: pooled(rounds) for name, rounds in found.items()}
        p99 = {name: [one.p99_ms] for name, one in together.items() if len(one.values_ms) >= FEWEST_FOR_P99}
        if p99:
            yield _panel("pick-up p99 of all samples, ms (less is better)", p99)


def _panel(title: str, figures: Mapping[str, Sequence[float]]) -> Panel:
    bars: list[Bar] = []
    for name, values in figures.items():
        spread = Spread(tuple(values))
        bars.append(
            {
                "name": name,
                "least": spread.least,
                "median": spread.median,
                "most": spread.most,
                "ours": name in (OURS, OURS_WITH_PICTURE),
            }
        )
    return {"title": title, "bars": bars}
