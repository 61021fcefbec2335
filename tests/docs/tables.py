"""The README's tables as the code has them. `python -m tests.docs.tables` prints them, to be pasted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasChoices, SecretStr
from pydantic_core import PydanticUndefined

from server.metrics import Metrics, ProcessesMetrics
from server.settings import Settings

ROOT = Path(__file__).parents[2]


def settings_rows() -> Iterator[str]:
    """One row per setting: name, further names, default, meaning."""
    for name, field in Settings.model_fields.items():
        other = []
        if isinstance(field.validation_alias, AliasChoices):
            other = [str(c).upper() for c in field.validation_alias.choices if c != name]
        names = ", ".join(f"`{n}`" for n in (name.upper(), *other))
        default = field.default
        if default is PydanticUndefined or default in (None, "") or isinstance(default, SecretStr):
            text = ""
        elif isinstance(default, bool):
            text = f"`{str(default).lower()}`"
        else:
            text = f"`{default}`"
        yield f"| {names} | {text} | {field.description} |"


def metrics_rows() -> Iterator[str]:
    """One row per metric: name, labels, meaning."""
    registries = (Metrics(app="", version="", role="").registry, ProcessesMetrics().registry)
    exposed = [(metric, registry) for registry in registries for metric in registry.collect()]
    for metric, registry in sorted(exposed, key=lambda pair: pair[0].name):
        name = metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
        labels = sorted(_labels(name, registry))
        text = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {metric.type} | {text} | {metric.documentation} |"


def _labels(name: str, registry: object) -> tuple[str, ...]:
    collectors = registry._names_to_collectors  # type: ignore[attr-defined]
    base = name.removesuffix("_info")
    collector = collectors.get(name) or collectors.get(base) or collectors.get(base.removesuffix("_total"))
    if name.endswith("_info"):
        return ("app", "version", "role")
    return tuple(collector._labelnames)


def make_targets() -> dict[str, str]:
    """Every documented target of the Makefile with its text."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*## (.+)$", text, re.MULTILINE))


if __name__ == "__main__":
    print("\n".join(settings_rows()))
    print()
    print("\n".join(metrics_rows()))
    print()
    print("\n".join(f"| `make {name}` | {text} |" for name, text in make_targets().items()))
