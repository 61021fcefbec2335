"""Models as data: what each one is called, who serves it and what it can be asked for.

The entries come from `server/providers/catalogue.toml`; this file only knows what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from server.domain.errors import ModelNotFound
from server.domain.request import OutputFormat, Size, parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to have a model's images made."""

    provider: str
    upstream_model: str
    """The model's name at that provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRules:
    """Which sizes a model takes: a label, one of a list, or any within the bounds."""

    default: Size
    labels: Mapping[str, Size] = field(default_factory=dict)
    listed: tuple[Size, ...] = ()
    min_side_px: int = 1
    max_side_px: int = 16_384
    min_area_px: int = 0
    """0 together with `max_area_px` 0: only labels and listed sizes are taken."""
    max_area_px: int = 0
    max_aspect: float = 16.0
    """The longer side divided by the shorter one."""

    def resolve(self, text: str) -> tuple[Size, str] | None:
        """The size and its label (empty for pixels) that `text` asks for; None if it is not allowed."""
        label = text.strip().upper()
        if label in self.labels:
            return self.labels[label], label
        size = parse_size(text)
        if size is None or not (size in self.listed or self._in_bounds(size)):
            return None
        return size, ""

    def _in_bounds(self, size: Size) -> bool:
        short, long = sorted((size.width_px, size.height_px))
        return (
            self.max_area_px > 0
            and short >= self.min_side_px
            and long <= self.max_side_px
            and self.min_area_px <= short * long <= self.max_area_px
            and long <= short * self.max_aspect
        )

    def describe(self) -> str:
        """The allowed values, for people."""
        parts: list[str] = []
        if self.labels:
            parts.append(", ".join(self.labels))
        if self.listed:
            parts.append(", ".join(str(s) for s in self.listed))
        if self.max_area_px:
            parts.append(
                f"WIDTHxHEIGHT with sides of {self.min_side_px} to {self.max_side_px} pixels, "
                f"{self.min_area_px:,} to {self.max_area_px:,} pixels in all, "
                f"and sides no further apart than 1:{self.max_aspect:g}"
            )
        return " or ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the catalogue."""

    id: str
    aliases: tuple[str, ...] = ()
    routes: tuple[Route, ...]
    sizes: SizeRules
    max_references: int = 0
    max_images: int = 15
    """How many pictures of one sequence it makes; a model without groups is called once per picture."""
    output_formats: tuple[OutputFormat, ...] = tuple(OutputFormat)
    qualities: tuple[str, ...] = ("standard",)

    def route(self, provider: str) -> Route | None:
        """The model's route over the named provider."""
        return next((r for r in self.routes if r.provider == provider), None)


class Catalogue:
    """All models of this deployment, found by id or alias. Raises ValueError when two share a name."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._by_name: dict[str, Model] = {}
        self.models = tuple(models)
        for model in self.models:
            for name in (model.id, *model.aliases):
                if name in self._by_name:
                    raise ValueError(f"model name {name!r} stands twice in the catalogue")
                self._by_name[name] = model

    def find(self, name: str) -> Model:
        """The model of this id or alias; raises ModelNotFound, which names those there are."""
        model = self._by_name.get(name)
        if model is None:
            known = ", ".join(m.id for m in self.models)
            raise ModelNotFound(
                f"There is no model {name[:64]!r}. Known models: {known}.", metadata={"model": name[:128]}
            )
        return model

    def upstream_model(self, model: str, provider: str) -> str:
        """The model's name at the provider; where no route says (a stand-in) its id."""
        known = self._by_name.get(model)
        route = known.route(provider) if known is not None else None
        return route.upstream_model if route is not None else model
