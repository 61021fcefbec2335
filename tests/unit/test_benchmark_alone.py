"""Rows of the benchmark's parts that no other queue library takes part in."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.both_cores import Scaling, Turn
from benchmarks.echo_ratio import GET_TASK
from benchmarks.growth import Growth, Rates
from benchmarks.latencies import Latencies
from benchmarks.load import H2LOAD
from benchmarks.open_waits import OpenWaits, Window
from benchmarks.report import markdown
from benchmarks.rounds import Results
from benchmarks.rows import rows_of
from benchmarks.service import OURS
from benchmarks.soak import Soak, trend
from benchmarks.start_up import StartUp
from benchmarks.sync_calls import SyncCalls
from tests.benchmark_figures import (
    CONDITIONS,
    RATIOS,
    latencies_of,
    pick_ups_of,
)


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
        tasks_per_s=900.0,
        left=950_000,
    )
    results = Results(
        sync=SyncCalls(
            callers=200,
            spread=[latencies_of(1009.0, 1051.0)] * 5,
            at_once=[latencies_of(1200.0, 1300.0)] * 5,
        ),
        starts=[StartUp(first_answer_s=0.9, idle_mib=91.0, others_mib={"worker": 70.0})] * 5,
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
        "worker, idle": "",
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
        "pick-up from the submit's return, p50": "met",
        "pick-up from the submit's return, p99 of 80": "",
        "pick-up from before the submit, p50": "",
        "pick-up from before the submit, p99 of 80": "",
    }


def test_a_costly_load_generator_leaves_the_echo_ratio_without_a_verdict() -> None:
    found = Results(ratios=[replace(ratio, load_generator="a Python client") for ratio in RATIOS])
    assert [(row.target, row.verdict) for row in rows_of(found)] == [("", "")] * 2


def test_a_soak_that_was_broken_off_has_no_verdict_on_memory() -> None:
    memory = {"the api": [100.0] * 10}
    soak = Soak(
        minutes=12.5,
        full_calls_per_s=200.0,
        calls_per_s=100.0,
        calls=75_000,
        errors=1,
        memory_mib=memory,
        calls_by=[7_500 * number for number in range(10)],
    )
    verdicts = {row.what: row.verdict for row in rows_of(Results(soak=soak))}
    assert verdicts["12.5 minutes at 100 calls/s, resident memory of the api, last fifth over second"] == ""
    assert verdicts["12.5 minutes at 100 calls/s, errors"] == "MISSED"


def test_how_busy_server_and_load_were_is_told() -> None:
    turn = Turn(requests_per_s=1_000.0, server_cores=0.9, generator_cores=0.2, largest_share=0.55)
    scaling = Scaling(method=GET_TASK, load_generator=H2LOAD, one=(turn,), several=(turn,))
    found = Results(scalings=[scaling])
    page = markdown(CONDITIONS, rows_of(found), found)
    assert "| GetTask | 2 processes | **1,000** | **0.90** | **0.20** | **55.0** |" in page
