"""The report: verdicts first, then every contender, then how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.both_cores import Scaling, Turn
from benchmarks.comparison import Row, Spread
from benchmarks.echo_ratio import Ratio
from benchmarks.effort import FEWEST_ROUNDS
from benchmarks.how import how
from benchmarks.latencies import FEWEST_FOR_P99, Latencies, pooled
from benchmarks.rounds import PICK_UP_CONCURRENCY, Results
from benchmarks.worker_round import PickUps, Work
from tests.distributed.several import PROCESSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How the figures came about."""

    date: str
    command: str
    commit: str
    machine: str
    redis: str
    load_generator: str
    rounds: int
    minutes: float
    load_before: float
    load_after: float
    contenders: Mapping[str, str]
    """Descriptions by name."""


def markdown(conditions: Conditions, rows: Sequence[Row], results: Results, *, plot: str = "") -> str:
    """The whole report as a page. `plot` is the name of an image beside it."""
    lines = [
        f"# Benchmark, {conditions.date}",
        "",
        f"`{conditions.command}` at {conditions.commit}: {conditions.rounds} rounds, contenders in turn, "
        f"{conditions.minutes:.0f} minutes.",
        f"{conditions.machine}; {conditions.redis}; gRPC load by {conditions.load_generator}.",
        f"Load average {conditions.load_before:.1f} before and {conditions.load_after:.1f} after.",
    ]
    if conditions.rounds < FEWEST_ROUNDS:
        lines += ["", f"**A trial: fewer than {FEWEST_ROUNDS} rounds.**"]
    lines += ["", *verdicts(rows)]
    if plot:
        lines += ["", f"![every contender]({plot})"]
    if any(ratio.service_cpu_ms for ratio in results.ratios):
        lines += ["", "## The API's CPU per request", "", *_api_table(results.ratios)]
    if results.scalings:
        lines += ["", f"## The API with {PROCESSES} processes", "", *_cores_table(results.scalings)]
    for concurrency, work in results.work.items():
        lines += ["", f"## Worker, {concurrency} at once", "", *_work_table(work)]
    if results.pick_ups:
        lines += ["", f"## Pick-up, {PICK_UP_CONCURRENCY} slots, idle queue", "", *_pick_up_table(results)]
    if results.missing:
        lines += ["", "## Not measured", ""]
        lines += [f"- {name}: not measured: {why}" for name, why in results.missing.items()]
    lines += ["", "## How", "", *how(results), ""]
    lines += [f"- {name}: {description}" for name, description in conditions.contenders.items()]
    return "\n".join(lines) + "\n"


def verdicts(rows: Sequence[Row]) -> list[str]:
    """The table of targets."""
    return _table(
        ("what", "unit", "ours", "against", "theirs", "ratio, or difference", "target", "verdict"),
        [
            (
                row.what,
                row.unit,
                _ours(row),
                _against(row),
                _spread(row.theirs) if row.theirs else "-",
                _compared(row),
                row.target or "-",
                f"**{row.verdict}**" if row.met is False else row.verdict or "-",
            )
            for row in rows
        ],
    )


def _ours(row: Row) -> str:
    return _spread(row.ours) + ("" if row.pooled is None else f"; together **{_figure(row.pooled)}**")


def _against(row: Row) -> str:
    return (row.other or "-") + (f" ({'; '.join(row.short)})" if row.short else "")


def _compared(row: Row) -> str:
    if row.compared is None:
        return "-"
    return f"{_spread(row.compared)} {row.unit if row.difference else '×'}"


def _api_table(ratios: Sequence[Ratio]) -> list[str]:
    return _table(
        ("method", "requests/s", "CPU per request, ms"),
        [
            (
                ratio.method.rsplit("/", 1)[-1],
                _spread(Spread(ratio.service_rates)),
                _spread(Spread(ratio.service_cpu_ms)),
            )
            for ratio in ratios
            if ratio.service_cpu_ms
        ],
    )


def _cores_table(scalings: Sequence[Scaling]) -> list[str]:
    def cells(method: str, who: str, turns: Sequence[Turn]) -> tuple[str, ...]:
        return (
            method,
            who,
            _spread(Spread(tuple(turn.requests_per_s for turn in turns))),
            _spread(Spread(tuple(turn.server_cores for turn in turns))),
            _spread(Spread(tuple(turn.generator_cores for turn in turns))),
            _spread(Spread(tuple(100 * turn.largest_share for turn in turns))),
        )

    return _table(
        (
            "method",
            "server",
            "requests/s",
            "cores busy, server",
            "cores busy, load",
            "calls in the process with most, %",
        ),
        [
            cells(scaling.name, who, turns)
            for scaling in scalings
            for who, turns in (("one process", scaling.one), (f"{PROCESSES} processes", scaling.several))
        ],
    )


def _work_table(work: Mapping[str, Sequence[Work]]) -> list[str]:
    return _table(
        ("contender", "tasks/s", "worker CPU per task, ms", "Redis CPU per task, ms"),
        [
            (
                name,
                _spread(Spread(tuple(one.tasks_per_s for one in rounds))),
                _spread(Spread(tuple(one.cpu_ms_per_task for one in rounds))),
                _spread(Spread(tuple(one.redis_cpu_ms_per_task for one in rounds))),
            )
            for name, rounds in work.items()
        ],
    )


def _pick_up_table(results: Results) -> list[str]:
    def p50_and_p99(rounds: Sequence[Latencies]) -> tuple[str, str]:
        every = pooled(rounds)
        p99 = every.p99_ms if len(every.values_ms) >= FEWEST_FOR_P99 else None
        return (
            _spread(Spread(tuple(one.p50_ms for one in rounds))),
            "too few samples" if p99 is None else f"**{_figure(p99)}**",
        )

    def cells(name: str, rounds: Sequence[PickUps]) -> tuple[str, ...]:
        return (
            name,
            *p50_and_p99([one.since_return for one in rounds]),
            *p50_and_p99([one.since_call for one in rounds]),
            f"{sum(len(one.since_call.values_ms) for one in rounds):,}",
        )

    return _table(
        (
            "contender",
            "p50 from the submit's return, ms",
            "p99 of all samples, ms",
            "p50 from before the submit, ms",
            "p99 of all samples, ms",
            "samples",
        ),
        [cells(name, rounds) for name, rounds in results.pick_ups.items()],
    )


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [_line(head), "|" + "---|" * len(head), *(_line(line) for line in lines)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _spread(spread: Spread) -> str:
    if len(spread.values) == 1:
        return f"**{_figure(spread.median)}**"
    return f"{_figure(spread.least)} / **{_figure(spread.median)}** / {_figure(spread.most)}"


def _figure(value: float) -> str:
    """Three digits that count, and no more than two decimals."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
