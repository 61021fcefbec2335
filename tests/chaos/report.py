"""The matrix as a table, for people and for `benchmarks/results/`."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from tests.chaos.run import Row, Run

COLUMNS = (
    "row",
    "fault",
    "repetitions",
    "tasks",
    "lost",
    "bought twice",
    "slowest recovery",
    "bound",
    "verdict",
)
PACKAGES = ("grpcio", "redis", "pymongo", "aiohttp")


@dataclass(frozen=True, slots=True)
class Result:
    """One row that was run."""

    row: Row
    run: Run
    took_s: float

    @property
    def kept(self) -> bool:
        """Whether no bound was broken."""
        return not self.run.audit.violations

    @property
    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        audit = self.run.audit
        slowest = f"{audit.slowest_s:.1f} s" if audit.slowest_s else "-"
        return (
            self.row.name,
            self.row.fault,
            f"{self.run.repetitions:,}",
            f"{audit.tasks:,}",
            str(audit.lost),
            str(audit.bought_twice),
            slowest,
            self.row.bound,
            "kept" if self.kept else f"BROKEN ({len(audit.violations)})",
        )

    @property
    def remarks(self) -> list[str]:
        """What the columns do not say."""
        audit = self.run.audit
        counts = {
            "tasks hit": audit.hits,
            "bought again after an attempt in doubt, as max_paid_attempts allows": audit.bought_again,
            "ended OUTCOME_UNKNOWN, as max_paid_attempts demands": audit.unknown,
            "attempts taken from workers that were alive but too slow": audit.false_verdicts,
        }
        told = [f"{count} {what}" for what, count in counts.items() if count]
        return [f"{self.row.name}: {', '.join([*told, f'{self.took_s:.0f} s in all'])}"] + [
            f"{self.row.name}: {note}" for note in self.run.notes
        ]


def table(results: Sequence[Result]) -> str:
    """The table for a terminal."""
    lines = [COLUMNS, *(result.cells for result in results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def markdown(
    results: Sequence[Result], *, command: str, commit: str, store: str, seed: int, short: bool
) -> str:
    """The whole report as a page."""
    took_s = sum(result.took_s for result in results)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        f"# Kill matrix, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"`{command}` at {commit}: store {store}, seed {seed}{', short form' if short else ''}, "
        f"{took_s / 60:.1f} minutes.",
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(result.cells) + " |" for result in results),
        "",
        "Lost: acknowledged tasks that were not found, did not end, or ended in a way that no rule allows.",
        "Bought twice: tasks billed more often than once and once more per attempt in doubt, within",
        "max_paid_attempts.",
        "",
        *(f"- {remark}" for result in results for remark in result.remarks if not remark.startswith("    ")),
    ]
    broken = [f"- {result.row.name}: {v}" for result in results for v in result.run.audit.violations]
    if broken:
        lines += ["", "## Broken", "", *broken]
    return "\n".join(lines) + "\n"
