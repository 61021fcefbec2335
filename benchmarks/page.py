"""Where a report is kept, and its plot beside it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from benchmarks.environments import NotInstalled
from benchmarks.plot import draw
from benchmarks.report import Conditions, markdown
from benchmarks.rounds import Results, tell
from benchmarks.rows import rows_of


def free_page(directory: Path, date: str, commit: str, part: str) -> Path:
    """A page that is not there yet, named after what was measured: no run takes the place of another."""
    stem = "-".join(word for word in (date, commit, part) if word)
    names = (f"{stem}{f'-{number}' if number > 1 else ''}.md" for number in count(1))
    return next(page for name in names if not (page := directory / name).exists())


def keep(page: Path | None, conditions: Conditions, results: Results, *, plot: str = "") -> str:
    """Write the report, where there is a page for it; its text. `plot` is the name of an image beside it."""
    text = markdown(conditions, rows_of(results), results, plot=plot)
    if page is None:
        return text
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)
    return f"{text}\nkept in {page}"


def keep_with_plot(page: Path, conditions: Conditions, results: Results) -> None:
    """Write it again with its plot, or with the reason why there is none."""
    image = page.with_suffix(".svg")
    try:
        draw(results, image)
    except NotInstalled as error:
        results.missing["the plot"] = str(error)
        tell(f"the plot: {error}")
    keep(page, conditions, results, plot=image.name if image.is_file() else "")
