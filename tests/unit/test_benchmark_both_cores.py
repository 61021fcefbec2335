"""The benchmark of several api processes: ratios within rounds, and the row of the report."""

from __future__ import annotations

import pytest

from benchmarks.both_cores import Scaling, Turn
from benchmarks.load import H2LOAD
from benchmarks.rows import cores_rows


def turn(rate: float) -> Turn:
    """So many requests per second."""
    return Turn(requests_per_s=rate, server_cores=1.0, generator_cores=0.2, largest_share=0.55)


def scaling(*pairs: tuple[float, float], load_generator: str = H2LOAD) -> Scaling:
    """One process' and two processes' rates, per round."""
    return Scaling(
        method="/task.v1.TaskService/GetTask",
        load_generator=load_generator,
        one=tuple(turn(one) for one, _ in pairs),
        several=tuple(turn(several) for _, several in pairs),
    )


def test_ratios_are_taken_within_a_round() -> None:
    assert scaling((100, 170), (10, 15), (1000, 1800)).ratios == (1.7, 1.5, 1.8)


@pytest.mark.parametrize(("several", "verdict"), [(160, "met"), (159, "MISSED")])
def test_the_row_holds_the_median_ratio_against_the_target(several: float, verdict: str) -> None:
    [row] = cores_rows([scaling((100, 100), (100, several), (100, 200))])
    assert (row.what, row.other, row.target) == (
        "GetTask, `--processes 2`, SQLite store",
        "one process",
        "≥ 1.6 ×",
    )
    assert row.verdict == verdict


def test_what_load_and_server_took_is_told_beside_the_ratio() -> None:
    text = str(scaling((1000, 1700)))
    assert "1.70" in text
    assert "2 processes       1,700 requests/s; cores busy: server 1.00, load 0.20; 55% of the calls" in text


def test_over_one_connection_there_is_no_verdict() -> None:
    [row] = cores_rows([scaling((100, 100), load_generator="a Python client")])
    assert (row.target, row.verdict) == ("", "")
    assert row.compared is not None
