"""Models as data: what each one is called, who serves it, what it can be asked for and what it costs.

The entries come from `server/providers/catalogue.toml` and a deployment's own file; this file only knows
what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from msgspec import Struct, field

from server.domain.errors import ModelNotFound
from server.domain.money import Price
from server.domain.references import ReferenceRules
from server.domain.request import MAX_IMAGES, OutputFormat, Size, parse_size
from server.domain.task import TaskType

LOCAL = "local"
"""The provider that draws by itself, and may stand in for vendors."""


class Parameters(Struct, frozen=True, kw_only=True):
    """Which optional fields of a request one provider honours for a model; the default is the least."""

    seed: bool = False
    guidance_scale: bool = False
    watermark: bool = False
    """Whether it can put a visible watermark on the picture. Leaving it out is something everyone can."""
    groups: bool = False
    """Whether one call makes several pictures that belong together; else each has a call of its own."""
    output_formats: tuple[OutputFormat, ...] = (OutputFormat.JPEG,)
    """The formats it makes, the one it makes unasked first. With a single one the field is not sent."""


class Route(Struct, frozen=True, kw_only=True):
    """One way to have a model's images made."""

    provider: str
    upstream_model: str
    """The model's name at that provider."""
    parameters: Parameters = field(default_factory=Parameters)
    price: Price | None = None
    """None: not known, which is not the same as free."""


def stand_in(model: str) -> Route:
    """The local provider in a vendor's place: it honours every parameter and charges nothing."""
    return Route(
        provider=LOCAL,
        upstream_model=model,
        parameters=Parameters(
            seed=True,
            guidance_scale=True,
            watermark=True,
            groups=True,
            output_formats=(OutputFormat.PNG, OutputFormat.JPEG, OutputFormat.WEBP),
        ),
        price=Price(currency="CNY", micros_per_image=0),
    )


class SizeRules(Struct, frozen=True, kw_only=True):
    """Which sizes a model takes: a label, one of a list, or any within the bounds."""

    default: str
    """What an empty size means: a label or WIDTHxHEIGHT, which these rules take."""
    labels: Mapping[str, Size] = field(default_factory=dict)
    """Spelled as the vendor wants them; callers may write them in any case."""
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
        wanted = text.strip().upper()
        for label, meant in self.labels.items():
            if label.upper() == wanted:
                return meant, label
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


class Model(Struct, frozen=True, kw_only=True):
    """One model of the catalogue."""

    id: str
    type: TaskType = TaskType.IMAGE
    """What it makes."""
    aliases: tuple[str, ...] = ()
    routes: tuple[Route, ...]
    """In order of preference."""
    sizes: SizeRules
    min_references: int = 0
    """1 or more: a model that edits pictures and makes none from words alone."""
    max_references: int = 0
    reference_rules: ReferenceRules = field(default_factory=ReferenceRules)
    """What each reference has to be, whoever makes the images."""
    max_images: int = MAX_IMAGES
    """How many pictures of one sequence it makes."""
    qualities: tuple[str, ...] = ("standard",)
    retired_date: date | None = None
    """Since when its vendor no longer promises to serve it, or will not. It is offered all the same while a
    provider is set up: whether a vendor still serves an account only the vendor knows."""

    def route(self, provider: str) -> Route | None:
        """The model's route over the named provider."""
        return next((r for r in self.routes if r.provider == provider), None)

    def retired(self, today: date) -> bool:
        """Whether its vendor has ended it."""
        return self.retired_date is not None and self.retired_date <= today


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

    def route(self, model: str, provider: str) -> Route:
        """How the provider makes the model's images; for a task that was accepted there is always an answer.

        Where the catalogue has no such route the local provider stands in, and a vendor (the file has changed
        since) is asked for the model by its id and for nothing that it might not know.
        """
        known = self._by_name.get(model)
        route = known.route(provider) if known is not None else None
        if route is not None:
            return route
        return stand_in(model) if provider == LOCAL else Route(provider=provider, upstream_model=model)
