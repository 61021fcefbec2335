"""The benchmark's report: every target with its verdict, what is missing, and that a trial is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.asynq import ASYNQ
from benchmarks.both_cores import Scaling, Turn
from benchmarks.comparison import Spread
from benchmarks.echo_ratio import GET_TASK, SUBMIT, Ratio
from benchmarks.growth import Growth, Rates
from benchmarks.latencies import Latencies
from benchmarks.load import H2LOAD
from benchmarks.open_waits import OpenWaits, Window
from benchmarks.page import free_page
from benchmarks.peer import PEERS
from benchmarks.report import Conditions, markdown
from benchmarks.rounds import Results
from benchmarks.rows import rows_of
from benchmarks.service import OURS, OURS_WITH_PICTURE
from benchmarks.soak import Soak, trend
from benchmarks.start_up import StartUp
from benchmarks.sync_calls import SyncCalls
from benchmarks.worker_round import PickUps, Work

PEER, OTHER = "arq", "SAQ"
SLOW = [peer.name for peer in PEERS if peer.name not in (PEER, OTHER)]
CONDITIONS = Conditions(
    date="2026-01-02",
    command="python -m benchmarks",
    commit="abc1234",
    machine="2 cores",
    redis="Redis server v=7",
    load_generator="h2load",
    rounds=5,
    minutes=12.3,
    load_before=0.1,
    load_after=1.9,
    contenders={OURS: "what it is", PEER: "what that is"},
)


RATIOS = [
    Ratio(method=GET_TASK, load_generator=H2LOAD, service_rates=(660.0,) * 5, echo_rates=(1000.0,) * 5),
    Ratio(
        method=SUBMIT,
        load_generator=H2LOAD,
        service_rates=(490.0,) * 5,
        echo_rates=(1000.0,) * 5,
        service_cpu_ms=(0.5,) * 5,
    ),
]


def rounds_of(rate: float, cost: float) -> list[Work]:
    return [
        Work(tasks_per_s=rate * factor, cpu_ms_per_task=cost, redis_cpu_ms_per_task=0.1)
        for factor in (1.0, 0.9, 1.1, 1.0, 1.0)
    ]


def latencies_of(p50: float, p99: float, *, samples: int = 80) -> Latencies:
    """With this median, and this at the end."""
    return Latencies((p50,) * (samples - 4) + (p99,) * 4)


def pick_ups_of(p50: float, p99: float, *, samples: int = 80) -> PickUps:
    """With these, of submits that took 3 ms each."""
    since_return = latencies_of(p50, p99, samples=samples)
    since_call = Latencies(tuple(value + 3.0 for value in since_return.values_ms))
    return PickUps(since_call=since_call, since_return=since_return)


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
        "pick-up from before the submit, p50": ("", "met"),
        "pick-up from before the submit, p99 of 400": ("", "MISSED"),
        "pick-up from the submit's return, p50 beside peers": (PEER, "met"),
        "pick-up from the submit's return, p99 beside peers": (PEER, "MISSED"),
    }


def test_the_page_shows_rows_contenders_and_what_is_missing(results: Results) -> None:
    page = markdown(CONDITIONS, rows_of(results), results, plot="plot.svg")
    assert (
        "| worker throughput, 10 at once | tasks/s | 2,250 / **2,500** / 2,750 | arq "
        "| 900 / **1,000** / 1,100 | 2.50 / **2.50** / 2.50 × | ≥ 2 × | met |"
    ) in page
    assert "| pick-up from the submit's return, p50 beside peers | ms |" in page
    assert "| arq (SAQ: too few samples) |" in page
    assert "| -0.50 / **-0.50** / -0.50 ms | not behind | met |" in page
    assert "| **MISSED** |" in page
    assert "| SAQ | 720 / **800** / 880 | 0.30 / **0.30** / 0.30 | 0.10 / **0.10** / 0.10 |" in page
    assert f"| {OURS_WITH_PICTURE} | 1,350 / **1,500** / 1,650 |" in page
    assert "| GenerateImageAsync | 490 / **490** / 490 | 0.50 / **0.50** / 0.50 |" in page
    assert (
        "| SAQ | 900 / **900** / 900 | too few samples | 903 / **903** / 903 | too few samples | 100 |"
        in page
    )
    assert "- a third, pick-up: not measured: it was not to be had" in page
    assert "`python -m benchmarks` at abc1234: 5 rounds" in page
    assert "- arq: what that is" in page
    assert "![every contender](plot.svg)" in page
    assert "A trial" not in page


def test_each_line_of_a_table_has_the_columns_of_its_head(results: Results) -> None:
    page = markdown(CONDITIONS, rows_of(results), results)
    for table in page.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_too_few_rounds_are_called_a_trial(results: Results) -> None:
    page = markdown(replace(CONDITIONS, rounds=4), rows_of(results), results)
    assert "**A trial: fewer than 5 rounds.**" in page


def test_without_peers_ours_is_still_shown_and_held_to_its_bounds(results: Results) -> None:
    alone = Results(work={10: {OURS: results.work[10][OURS]}}, pick_ups={OURS: results.pick_ups[OURS]})
    rows = rows_of(alone)
    assert [row.what for row in rows] == [
        "pick-up from before the submit, p50",
        "pick-up from before the submit, p99 of 400",
    ]
    assert f"| {OURS} | 2,250 / **2,500** / 2,750 |" in markdown(CONDITIONS, rows, alone)


def test_what_is_measured_without_peers_has_its_rows_and_its_explanation() -> None:
    window = Window(
        lag=latencies_of(0.2, 51.0),
        resident_mib=390.0,
        peak_mib=399.0,
        read=latencies_of(2.0, 90.0),
        submit=Latencies((5.0,)),
        failed=0,
    )
    rates = Rates(
        gets_per_s=1000.0,
        cpu_ms_per_get=0.4,
        submits_per_s=500.0,
        walk_s=30.0,
        walking_tasks_per_s=450.0,
        tasks_per_s=900.0,
        left=950_000,
    )
    results = Results(
        sync=SyncCalls(
            callers=200,
            spread=[latencies_of(1009.0, 1051.0)] * 5,
            at_once=[latencies_of(1200.0, 1300.0)] * 5,
        ),
        starts=[StartUp(first_answer_s=0.9, idle_mib=91.0)] * 5,
        waits=OpenWaits(waits=10_000, windows=[window, replace(window, peak_mib=401.0, failed=1)]),
        growth=Growth(
            few=1_000,
            tasks=1_000_000,
            callers=10_000,
            bytes_per_task=200.0,
            small=[rates] * 5,
            large=[replace(rates, submits_per_s=399.0, tasks_per_s=720.0)] * 5,
        ),
        soak=Soak(
            minutes=30.0,
            full_calls_per_s=200.0,
            calls_per_s=100.0,
            calls=180_000,
            errors=0,
            memory_mib={"the api": [50.0, *[100.0] * 9], "the worker": [100.0] * 8 + [106.0, 106.0]},
            calls_by=[20_000 * number for number in range(10)],
        ),
    )
    rows = rows_of(results)
    assert {row.what: row.verdict for row in rows} == {
        "GenerateImage, provider takes 1 s, 200 callers, calls spread evenly, p50": "met",
        "GenerateImage, provider takes 1 s, 200 callers, calls spread evenly, p99 of 400": "MISSED",
        "GenerateImage, provider takes 1 s, 200 callers, calls all in one moment, p50": "MISSED",
        "GenerateImage, provider takes 1 s, 200 callers, calls all in one moment, p99 of 400": "MISSED",
        "api, SQLite store, start to first answer": "met",
        "api, SQLite store, idle": "MISSED",
        "10,000 sync calls open, most memory since the start": "MISSED",
        "10,000 sync calls open, memory": "",
        "10,000 sync calls open, loop lag p99": "MISSED",
        "10,000 sync calls open, loop lag, slowest": "",
        "10,000 sync calls open, other calls not answered": "MISSED",
        "10,000 sync calls open, GetTask p50": "",
        "10,000 sync calls open, GetTask p99": "",
        "10,000 sync calls open, GenerateImageAsync p50": "",
        "GetTask of any of 1,000,000 tasks stored and queued": "met",
        "GenerateImageAsync over 1,000,000 tasks stored and queued": "MISSED",
        "worker over 1,000,000 tasks stored and queued": "met",
        "API CPU per GetTask of any of them": "",
        "worker during its sweep's first walk over them": "",
        "the sweep's first walk over them, from the worker's start": "",
        "the least that waited, at a round's end": "",
        "Redis per queued task, 1,000,000 of 10,000 callers": "met",
        "30 minutes at 100 calls/s, resident memory of the api, last fifth over second": "met",
        "30 minutes at 100 calls/s, resident memory of the api, second fifth": "",
        "30 minutes at 100 calls/s, resident memory of the api, last fifth": "",
        "30 minutes at 100 calls/s, resident memory of the api, growth": "",
        "30 minutes at 100 calls/s, resident memory of the worker, last fifth over second": "MISSED",
        "30 minutes at 100 calls/s, resident memory of the worker, second fifth": "",
        "30 minutes at 100 calls/s, resident memory of the worker, last fifth": "",
        "30 minutes at 100 calls/s, resident memory of the worker, growth": "",
        "30 minutes at 100 calls/s, errors": "met",
    }
    walking = next(row for row in rows if row.what.startswith("worker during"))
    assert walking.compared is not None
    assert walking.compared.median == 0.5
    page = markdown(CONDITIONS, rows, results)
    assert (
        "| api, SQLite store, idle | MiB resident | 91.0 / **91.0** / 91.0 | - | - | - | ≤ 90 MiB resident |"
        in page
    )
    assert "calls spread evenly, p99 of 400 | ms | 1,051 / **1,051** / 1,051; together **1,051** |" in page
    assert "of the worker, growth | KiB per 1,000 calls | **51.2** |" in page
    explained = (
        "Redis runs",
        "Our store is SQLite",
        "GenerateImage over",
        "Start:",
        "Open calls:",
        "Growth:",
        "Soak: one run of 180,000",
    )
    assert all(f"- {words}" in page for words in explained)
    assert "- Worker:" not in page


def test_a_short_soak_is_compared_as_far_as_it_goes() -> None:
    alone = trend([100.0], [0])
    assert (alone.grown, alone.kib_per_1000_calls) == (1.0, 0.0)
    five = trend([50.0, 100.0, 100.0, 100.0, 110.0], [0, 1_000, 2_000, 3_000, 11_240])
    assert (five.second_fifth_mib, five.last_fifth_mib, five.grown) == (100.0, 110.0, 1.1)
    assert five.kib_per_1000_calls == 1_000.0


def test_a_p99_of_few_samples_has_no_verdict() -> None:
    found = Results(pick_ups={OURS: [pick_ups_of(1.5, 300.0)]})
    assert {row.what: row.verdict for row in rows_of(found)} == {
        "pick-up from before the submit, p50": "met",
        "pick-up from before the submit, p99 of 80": "",
    }


def test_a_costly_load_generator_leaves_the_echo_ratio_without_a_verdict() -> None:
    found = Results(ratios=[replace(ratio, load_generator="a Python client") for ratio in RATIOS])
    assert [(row.target, row.verdict) for row in rows_of(found)] == [("", "")] * 2


def test_how_busy_server_and_load_were_is_told() -> None:
    turn = Turn(requests_per_s=1_000.0, server_cores=0.9, generator_cores=0.2, largest_share=0.55)
    scaling = Scaling(method=GET_TASK, load_generator=H2LOAD, one=(turn,), several=(turn,))
    found = Results(scalings=[scaling])
    page = markdown(CONDITIONS, rows_of(found), found)
    assert "| GetTask | 2 processes | **1,000** | **0.90** | **0.20** | **55.0** |" in page


def test_a_run_that_was_told_to_stop_says_so(results: Results) -> None:
    results.broken_off("sync")
    assert not results.complete
    page = markdown(CONDITIONS, rows_of(results), results)
    assert "- the rest of sync, and all after it: not measured: the run was told to stop" in page


def test_no_report_takes_the_place_of_another(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        page = free_page(tmp_path, "2026-01-02", "abc1234", "soak")
        page.touch()
        names.append(page.name)
    assert names == [f"2026-01-02-abc1234-soak{number}.md" for number in ("", "-2", "-3")]
    assert free_page(tmp_path, "2026-01-02", "abc1234", "").name == "2026-01-02-abc1234.md"


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
    page = markdown(CONDITIONS, list(rows.values()), results)
    assert f"| {ASYNQ} | 9,000 / **10,000** / 11,000 | 0.25 / **0.25** / 0.25 × | - | - |" in page


def test_a_peer_that_failed_in_mid_run_does_not_lower_the_bar(results: Results) -> None:
    results.work[10][PEER] = results.work[10][PEER][:2]
    del results.work[10][SLOW[0]]
    rows = {row.what: row for row in rows_of(results)}
    row = rows["worker throughput, 10 at once"]
    assert row.other == PEER
    assert row.compared == Spread((2.5, 2.5)), "of the rounds that both have"
    page = markdown(CONDITIONS, list(rows.values()), results)
    assert f"| {PEER} | 900 / **950** / 1,000 |" in page
    assert f"| {PEER} ({PEER}: 2 of 5 rounds; {SLOW[0]}: missing) |" in page


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
