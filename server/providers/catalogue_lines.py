"""Finds the line of a field in a catalogue file, which the TOML reader does not tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_MODEL = re.compile(r"\s*\[\[\s*model\s*\]\]")
_TABLE = re.compile(r"\s*\[(\[?)\s*model\s*\.([^\]]+)\]")
_KEY = re.compile(r"\s*([\w\".-]+)\s*=")


def line_of(text: str, place: int, field: Sequence[str | int]) -> int:
    """The 1-based line of the field in the `place`th [[model]] (from 0), or of what is nearest around it."""
    model, best, depth = -1, 1, -1
    table: list[str | int] = []
    arrays: Counter[tuple[str, ...]] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if _MODEL.match(line):
            model, table = model + 1, []
            arrays.clear()
            found = table
        elif match := _TABLE.match(line):
            names = _parts(match[2])
            found = table = [*names]
            if match[1]:  # [[model.routes]]: one item of a list
                table.append(arrays[*names])
                arrays[*names] += 1
        elif match := _KEY.match(line):
            found = [*table, *_parts(match[1])]
        else:
            continue
        if model == place and len(found) > depth and list(field[: len(found)]) == found:
            best, depth = number, len(found)
    return best


def _parts(key: str) -> list[str]:
    return [part.strip().strip('"') for part in key.split(".")]
