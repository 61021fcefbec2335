"""Reads the catalogue from TOML: the built-in file, and a deployment's own one over it.

What is wrong in a file is told with its line, the model and the field, everything at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from server.domain.catalogue import Catalogue, Model
from server.providers.catalogue_entry import Entry, faults_of
from server.providers.catalogue_lines import line_of

MAX_TOLD = 20
"""So many faults of a file are told; one with more has the wrong form altogether."""

Table = dict[str, Any]


class CatalogueError(Exception):
    """A catalogue file cannot be used: one line per fault, with file, line, model, field and reason."""


def load_catalogue(own: Path | None = None) -> Catalogue:
    """The built-in models, and those of the deployment's own file, which adds or, by id, overrides.

    An entry of a known id needs only what differs: a field in it replaces the built-in one as a whole.
    Raises CatalogueError.
    """
    source = files("server.providers") / "catalogue.toml"
    built_in = {entry["id"]: entry for entry in _entries(source, source.read_text(encoding="utf-8"))}
    models = {name: Entry.model_validate(entry).model() for name, entry in built_in.items()}
    if own is None:
        return Catalogue(models.values())
    try:
        text = own.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{own}: cannot be read: {error}") from error
    faults: list[str] = []
    places: dict[str, int] = {}

    def wrong(place: int, field: tuple[str | int, ...], reason: str) -> None:
        faults.append(f"{own}: line {line_of(text, place, field)}: {reason}")

    for place, entry in enumerate(_entries(own, text)):
        name = str(entry.get("id", f"number {place + 1}"))
        if name in places:
            wrong(place, ("id",), f"model {name}: stands twice in this file")
            continue
        places[name] = place
        try:
            models[name] = Entry.model_validate({**built_in.get(name, {}), **entry}).model()
        except ValidationError as error:
            for field, reason in faults_of(error):
                wrong(place, field, f"model {name}: {reason}")
    for first, second, shared in _namesakes(models):
        mine = second if second in places else first
        wrong(places[mine], ("aliases",), f"model {mine}: {shared!r} is a name of {first} and of {second}")
    if faults:
        raise CatalogueError("\n".join(faults[:MAX_TOLD]))
    return Catalogue(models.values())


def _entries(path: Path | Traversable, text: str) -> list[Table]:
    """The [[model]] tables of a file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its text names the line
        raise CatalogueError(f"{path}: {error}") from error
    unknown = sorted(set(document) - {"model"})
    entries = document.get("model")
    if unknown or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        found = f", not {unknown[0]!r}" if unknown else ""
        raise CatalogueError(f"{path}: line 1: expected [[model]] tables and nothing else{found}")
    return entries


def _namesakes(models: Mapping[str, Model]) -> list[tuple[str, str, str]]:
    """Pairs of models with a name in common, and that name."""
    owners: dict[str, str] = {}
    found = []
    for model in models.values():
        for name in (model.id, *model.aliases):
            owner = owners.setdefault(name, model.id)
            if owner != model.id:
                found.append((owner, model.id, name))
    return found
