"""What is asked of the figures."""

from __future__ import annotations

from benchmarks.echo_ratio import GET_TASK, SUBMIT

ECHO_TARGETS = {GET_TASK: 0.6, SUBMIT: 0.5}
BOTH_CORES = 1.6
THROUGHPUT, CPU = 2.0, 1.0
P50_MS, P99_MS = 5.0, 20.0
SYNC_P50_MS, SYNC_P99_MS = 1_010.0, 1_050.0
START_S, IDLE_MIB = 1.0, 90.0
WAITS_MIB, LAG_P99_MS = 400.0, 50.0
GROWTH, QUEUED_BYTES = 0.8, 200.0
SOAK_MINUTES, SOAK_GROWTH = 30.0, 1.05
"""Flat is less than this factor in this time: allocators and caches breathe by a few per cent."""
