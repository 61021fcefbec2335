"""The benchmark's report: every target with its verdict, what is missing, and that a trial is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.asynq import ASYNQ
from benchmarks.comparison import Spread
from benchmarks.environments import NotInstalled
from benchmarks.page import free_page
from benchmarks.plot import panels_of
from benchmarks.report import markdown
from benchmarks.rounds import Results
from benchmarks.rows import rows_of
from benchmarks.service import OURS, OURS_WITH_PICTURE
from tests.benchmark_figures import (
    CONDITIONS,
    OTHER,
    PEER,
    RATIOS,
    SLOW,
    pick_ups_of,
    rounds_of,
)


@pytest.fixture
def results() -> Results:
    return Results(
        ratios=RATIOS,
        work={
            10: {
                OURS: rounds_of(2500, 0.4),
                OURS_WITH_PICTURE: rounds_of(1500, 0.7),
                PEER: rounds_of(1000, 0.5),
                OTHER: rounds_of(800, 0.3),
                **{name: rounds_of(100, 5.0) for name in SLOW},
            }
        },
        pick_ups={
            OURS: [pick_ups_of(1.5, 18.0)] * 5,
            PEER: [pick_ups_of(2.0, 3.0)] * 5,
            OTHER: [pick_ups_of(900.0, 1.0, samples=20)] * 5,
            **{name: [pick_ups_of(50.0, 60.0)] * 5 for name in SLOW},
        },
        missing={"a third, pick-up": "it was not to be had"},
    )


def test_every_target_has_its_verdict(results: Results) -> None:
    verdicts = {row.what: (row.other, row.verdict) for row in rows_of(results)}
    assert verdicts == {
        "GetTask, SQLite store": ("bare gRPC echo", "met"),
        "GenerateImageAsync, SQLite store": ("bare gRPC echo", "MISSED"),
        "worker throughput, 10 at once": (PEER, "met"),
        "worker CPU per task, 10 at once": (OTHER, "MISSED"),
        "pick-up from the submit's return, p50": ("", "met"),
        "pick-up from the submit's return, p99 of 400": ("", "met"),
        "pick-up from before the submit, p50": ("", ""),
        "pick-up from before the submit, p99 of 400": ("", ""),
        "pick-up from the submit's return, p50 beside peers": (PEER, "met"),
        "pick-up from the submit's return, p99 beside peers": (PEER, "MISSED"),
    }


def test_the_page_shows_rows_contenders_and_what_is_missing(results: Results) -> None:
    text = markdown(CONDITIONS, rows_of(results), results, plot="plot.svg")
    assert (
        "| worker throughput, 10 at once | tasks/s | 2,250 / **2,500** / 2,750 | arq "
        "| 900 / **1,000** / 1,100 | 2.50 / **2.50** / 2.50 × | ≥ 2 × | met |"
    ) in text
    assert "| pick-up from the submit's return, p50 beside peers | ms |" in text
    assert "| arq (SAQ: too few samples) |" in text
    assert "| -0.50 / **-0.50** / -0.50 ms | not behind | met |" in text
    assert "| **MISSED** |" in text
    assert "| SAQ | 720 / **800** / 880 | 0.30 / **0.30** / 0.30 | 0.10 / **0.10** / 0.10 |" in text
    assert f"| {OURS_WITH_PICTURE} | 1,350 / **1,500** / 1,650 |" in text
    assert "| GenerateImageAsync | 490 / **490** / 490 | 0.50 / **0.50** / 0.50 |" in text
    assert (
        "| SAQ | 900 / **900** / 900 | too few samples | 903 / **903** / 903 | too few samples | 100 |"
        in text
    )
    assert "- a third, pick-up: not measured: it was not to be had" in text
    assert "`python -m benchmarks` at abc1234: 5 rounds" in text
    assert "- arq: what that is" in text
    assert "![every contender](plot.svg)" in text
    assert "A trial" not in text


def test_each_line_of_a_table_has_the_columns_of_its_head(results: Results) -> None:
    text = markdown(CONDITIONS, rows_of(results), results)
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_too_few_rounds_are_called_a_trial(results: Results) -> None:
    text = markdown(replace(CONDITIONS, rounds=4), rows_of(results), results)
    assert "**A trial: fewer than 5 rounds.**" in text


def test_without_peers_ours_is_still_shown_and_held_to_its_bounds(results: Results) -> None:
    alone = Results(work={10: {OURS: results.work[10][OURS]}}, pick_ups={OURS: results.pick_ups[OURS]})
    rows = rows_of(alone)
    assert [row.what for row in rows] == [
        "pick-up from the submit's return, p50",
        "pick-up from the submit's return, p99 of 400",
        "pick-up from before the submit, p50",
        "pick-up from before the submit, p99 of 400",
    ]
    assert f"| {OURS} | 2,250 / **2,500** / 2,750 |" in markdown(CONDITIONS, rows, alone)


def test_a_run_that_was_told_to_stop_says_so(results: Results) -> None:
    results.broken_off("sync")
    assert not results.complete
    text = markdown(CONDITIONS, rows_of(results), results)
    assert "- the rest of sync, and all after it: not measured: the run was told to stop" in text


def test_no_report_takes_the_place_of_another(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        free = free_page(tmp_path, "2026-01-02", "abc1234", "soak")
        free.touch()
        names.append(free.name)
    assert names == [f"2026-01-02-abc1234-soak{number}.md" for number in ("", "-2", "-3")]
    assert free_page(tmp_path, "2026-01-02", "abc1234", "").name == "2026-01-02-abc1234.md"


def test_without_its_plot_the_page_says_why(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(_: Results, __: Path) -> None:
        raise NotInstalled("no matplotlib")

    monkeypatch.setattr(page, "draw", draw)
    path = tmp_path / "page.md"
    page.keep_with_plot(path, CONDITIONS, results)
    text = path.read_text()
    assert "- the plot: not measured: no matplotlib" in text
    assert "![every contender]" not in text


def test_only_who_has_samples_enough_is_drawn_with_a_p99(results: Results) -> None:
    bars = {panel["title"]: {bar["name"]: bar for bar in panel["bars"]} for panel in panels_of(results)}
    p99 = bars["pick-up p99 of all samples, ms (less is better)"]
    assert p99[PEER]["median"] == 3.0
    assert OTHER not in p99
    assert OTHER in bars["pick-up p50, ms (less is better)"]


def test_what_was_not_measured_has_no_rows() -> None:
    assert rows_of(Results()) == []


def test_asynq_is_told_for_scale_and_is_nobodys_best_peer(results: Results) -> None:
    results.work[10][ASYNQ] = rounds_of(10_000, 0.1)
    rows = {row.what: row for row in rows_of(results)}
    assert rows["worker throughput, 10 at once"].other == PEER
    assert rows["worker CPU per task, 10 at once"].other == OTHER
    scale = rows["worker throughput, 10 at once, for scale"]
    assert (scale.other, scale.target, scale.verdict) == (ASYNQ, "", "")
    assert scale.compared is not None
    assert scale.compared.median == 0.25
    text = markdown(CONDITIONS, list(rows.values()), results)
    assert f"| {ASYNQ} | 9,000 / **10,000** / 11,000 | 0.25 / **0.25** / 0.25 × | - | - |" in text


def test_a_peer_that_failed_in_mid_run_does_not_lower_the_bar(results: Results) -> None:
    results.work[10][PEER] = results.work[10][PEER][:2]
    del results.work[10][SLOW[0]]
    rows = {row.what: row for row in rows_of(results)}
    row = rows["worker throughput, 10 at once"]
    assert row.other == PEER
    assert row.compared == Spread((2.5, 2.5)), "of the rounds that both have"
    text = markdown(CONDITIONS, list(rows.values()), results)
    assert f"| {PEER} | 900 / **950** / 1,000 |" in text
    assert f"| {PEER} ({PEER}: 2 of 5 rounds; {SLOW[0]}: missing) |" in text


def test_when_ours_failed_in_mid_run_its_rounds_are_compared(results: Results) -> None:
    results.work[10][OURS] = results.work[10][OURS][:2]
    row = next(row for row in rows_of(results) if row.what == "worker throughput, 10 at once")
    assert list(row.ours.values) == [2500, 2250]
    assert row.compared is not None
    assert len(row.compared.values) == 2


def test_when_ours_was_not_measured_the_others_are_still_shown(results: Results) -> None:
    del results.work[10][OURS], results.pick_ups[OURS]
    rows = rows_of(results)
    assert [row.what for row in rows] == ["GetTask, SQLite store", "GenerateImageAsync, SQLite store"]
    assert f"| {PEER} | 900 / **1,000** / 1,100 |" in markdown(CONDITIONS, rows, results)
