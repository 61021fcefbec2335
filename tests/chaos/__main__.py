"""`python -m tests.chaos`: runs the kill matrix, or rows of it; exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.report import Result, markdown, table
from tests.chaos.rows import ROWS
from tests.chaos.run import NewStore, Row, Run
from tests.chaos.stores import MongoStore, SqliteStore
from tests.commit import commit
from tests.mongo_process import MongoServer, find_program
from tests.nursery import Nursery

VIOLATIONS_SHOWN = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--row", action="append", choices=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument(
        "--short", action="store_true", help="few repetitions and short leases: seconds per row"
    )
    parser.add_argument("--store", choices=["sqlite", "mongo"], default="sqlite")
    parser.add_argument("--seed", type=int, default=None, help="of the random points at which faults strike")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    arguments = parser.parse_args(argv)
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    at = commit()  # before the report itself changes the folder
    results: list[Result] = []
    with Nursery() as nursery, _stores(arguments.store) as new_store:
        for name in arguments.row or ROWS:
            run = Run(
                nursery,
                new_store,
                short=arguments.short,
                random=random.Random(f"{seed} {name}"),
                slow_store=arguments.store == "mongo",
            )
            results.append(run_row(ROWS[name], run))
            _tell(results[-1])
    print(table(results))
    if arguments.out is not None:
        command = " ".join(["python -m tests.chaos", *(sys.argv[1:] if argv is None else argv)])
        page = markdown(
            results, command=command, commit=at, store=arguments.store, seed=seed, short=arguments.short
        )
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(page)
    return 0 if all(result.kept for result in results) else 1


def run_row(row: Row, run: Run) -> Result:
    """Run one row to its end; what it runs into besides broken promises is one as well."""
    started = time.monotonic()
    try:
        asyncio.run(row.run(run))
    except Exception as error:
        run.broken(f"the row could not go on: {type(error).__name__}", str(error))
    return Result(row, run, time.monotonic() - started)


@contextlib.contextmanager
def _stores(kind: str) -> Iterator[NewStore]:
    """Makes the store of each deployment."""
    if kind == "sqlite":
        yield SqliteStore
        return
    with tempfile.TemporaryDirectory(prefix="chaos-mongo-") as directory:
        server = MongoServer(find_program(print), data_dir=Path(directory))
        server.start()
        try:
            yield lambda _directory: MongoStore(server, server.url)
        finally:
            server.stop()


def _tell(result: Result) -> None:
    for remark in result.remarks:
        print(remark)
    for violation in result.run.audit.violations[:VIOLATIONS_SHOWN]:
        print(f"  BROKEN {violation}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
