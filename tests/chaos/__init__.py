"""The kill matrix: real processes with real work in hand are killed, and the promises are counted.

`python -m tests.chaos` runs it, with `--row NAME` one row of it; `tests/distributed/test_chaos.py` runs
the short form.
"""
