"""The command `imagegen`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from imagegen import streams


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrong usage, 3 unreachable, 4 still
    running, 130 interrupted. Raises SystemExit where argparse does: for --help, --version and wrong usage.
    """
    # The library's own log lines would stand between ours; it reads this once, when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # A stream that was closed from the start (`>&-`) is None: its place is taken, so that no file gets it.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        from imagegen.arguments import parse

        arguments = parse(sys.argv[1:] if argv is None else argv)
        try:
            from imagegen.commands import run
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "rich":
                raise
            hint = "install this package with its extra, '.[cli]'"
            print(f"imagegen: the command line needs rich: {hint}", file=sys.stderr)
            return 2
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        return asyncio.run(run(arguments))
    except OSError as error:  # of what is written to: all else has been told by then
        streams.abandon(sys.stdout)
        print(f"imagegen: cannot write: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("imagegen: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
