"""Reads the catalogue from TOML; what is wrong in a file is named with the model and the field."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from server.domain.catalogue import Catalogue, Model, Route, SizeRules
from server.domain.request import OutputFormat, Size, parse_size

MODEL_FIELDS = frozenset(
    {"id", "aliases", "routes", "max_references", "max_images", "output_formats", "qualities", "sizes"}
)
SIZE_FIELDS = frozenset(
    {
        "default",
        "labels",
        "listed",
        "min_side_px",
        "max_side_px",
        "min_area_px",
        "max_area_px",
        "max_aspect",
    }
)


class CatalogueError(Exception):
    """The catalogue file cannot be used: says which file, which model and what is expected."""


def load_catalogue(path: Path | None = None) -> Catalogue:
    """The built-in catalogue, or the one at `path`. Raises CatalogueError."""
    source = path or files("server.providers") / "catalogue.toml"
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"{source}: {error}") from error
    models: list[Model] = []
    for number, entry in enumerate(document.get("model", ()), start=1):
        where = f"{source}: model {entry.get('id', f'number {number}')}"
        try:
            models.append(_model(entry))
        except (KeyError, TypeError, ValueError) as error:
            missing = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
            raise CatalogueError(f"{where}: {missing}") from error
    if not models:
        raise CatalogueError(f"{source}: holds no [[model]]")
    try:
        return Catalogue(models)
    except ValueError as error:
        raise CatalogueError(f"{source}: {error}") from error


def _model(entry: Mapping[str, Any]) -> Model:
    _known(entry, MODEL_FIELDS)
    routes = tuple(
        Route(provider=route["provider"], upstream_model=route.get("upstream", entry["id"]))
        for route in entry["routes"]
    )
    if not routes:
        raise ValueError("routes: at least one is needed")
    return Model(
        id=entry["id"],
        aliases=tuple(entry.get("aliases", ())),
        routes=routes,
        sizes=_sizes(entry["sizes"]),
        max_references=int(entry.get("max_references", 0)),
        max_images=int(entry.get("max_images", 15)),
        output_formats=tuple(OutputFormat(f) for f in entry.get("output_formats", tuple(OutputFormat))),
        qualities=tuple(entry.get("qualities", ("standard",))),
    )


def _sizes(entry: Mapping[str, Any]) -> SizeRules:
    _known(entry, SIZE_FIELDS)
    numbers = {k: v for k, v in entry.items() if k.startswith(("min_", "max_"))}
    return SizeRules(
        default=_size(entry["default"]),
        labels={label.upper(): _size(text) for label, text in entry.get("labels", {}).items()},
        listed=tuple(_size(text) for text in entry.get("listed", ())),
        **numbers,
    )


def _size(text: str) -> Size:
    size = parse_size(text)
    if size is None:
        raise ValueError(f"{text!r} is not WIDTHxHEIGHT")
    return size


def _known(entry: Mapping[str, Any], allowed: Sequence[str] | frozenset[str]) -> None:
    unknown = sorted(set(entry) - set(allowed))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(allowed))}")
