"""Rounds in turn: what fails becomes a line, and what was measured before stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from benchmarks.contender import Contender, Deployment, MeasureFailed
from benchmarks.rounds import Results, in_turn
from benchmarks.service import OURS
from tests.redis_server import RedisServer


class Named:
    """A contender that is only told apart."""

    description = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self) -> None:
        """Nothing."""

    @contextmanager
    def deployed(self, redis: RedisServer) -> Iterator[Deployment]:
        raise AssertionError("nobody runs it")


@pytest.mark.parametrize("failing", [OURS, "a peer"])
@pytest.mark.parametrize("error", [MeasureFailed("stuck"), RuntimeError("stuck")])
def test_who_fails_keeps_its_rounds_and_takes_no_further_part(failing: str, error: Exception) -> None:
    turns: list[str] = []

    def measure(contender: Contender) -> float:
        turns.append(contender.name)
        if contender.name == failing and turns.count(failing) == 3:
            raise error
        return 1.0

    results, found = Results(), dict[str, list[float]]()
    in_turn([Named(OURS), Named("a peer"), Named("another")], measure, 5, "pick-up", results, found)
    assert {name: len(measured) for name, measured in found.items()} == {
        OURS: 5,
        "a peer": 5,
        "another": 5,
        failing: 2,
    }
    assert turns.count(failing) == 3
    assert results.missing == {f"{failing}, pick-up, round 3 of 5": "stuck"}
    assert results.complete is (failing != OURS)


def test_a_part_that_fails_leaves_the_others() -> None:
    results = Results()

    def fail() -> None:
        raise TimeoutError

    results.attempt("soak", fail)
    results.attempt("start", lambda: results.work.update({10: {}}))
    assert results.missing == {"soak": "TimeoutError"}
    assert not results.complete
    assert results.work == {10: {}}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            MeasureFailed("it did not stop in order:\na line\n\nthe last one\n"),
            "it did not stop in order: … the last one",
        ),
        (ExceptionGroup("two", [ExceptionGroup("one", [MeasureFailed("inner")])]), "inner"),
        (
            AioRpcError(
                StatusCode.UNAVAILABLE, Metadata(), Metadata(), details="gone", debug_error_string="x"
            ),
            "UNAVAILABLE: gone",
        ),
    ],
)
def test_of_a_failure_one_line_is_told(error: Exception, told: str) -> None:
    results = Results()
    results.failed("a part", error, ours=False)
    assert results.missing == {"a part": told}
