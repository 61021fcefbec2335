"""The ratio guard: what the whole stack costs beside a bare gRPC echo, measured in one run."""

from __future__ import annotations

import pytest

from benchmarks.echo_ratio import GET_TASK, SUBMIT, measure

LEAST = {GET_TASK: 0.45, SUBMIT: 0.35}
"""What is reached on a machine that has other work, too; the targets are those of `make bench`."""


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_calls_keep_their_share_of_a_bare_echo() -> None:
    ratios = measure(rounds=5, requests=3_000, least=LEAST)
    print(*ratios, sep="\n")
    assert {ratio.method: ratio.median for ratio in ratios if ratio.median < LEAST[ratio.method]} == {}
