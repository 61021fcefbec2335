"""One [[model]] of a catalogue file: which fields there are, and what each may hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from server.domain.catalogue import Model, Parameters, Route, SizeRules
from server.domain.money import Price
from server.domain.references import FORMATS, ReferenceRules
from server.domain.request import (
    MAX_ID_CHARS,
    MAX_IMAGES,
    MAX_REFERENCE_ASPECT,
    MAX_REFERENCE_BYTES,
    MAX_REFERENCE_PIXELS,
    MAX_REFERENCES,
    MIN_REFERENCE_SIDE_PX,
    OutputFormat,
    Size,
    parse_size,
)
from server.domain.routing import PROVIDERS
from server.domain.task import TaskType

MICROS = 1_000_000


def _size(value: Any) -> Size:
    size = parse_size(value) if isinstance(value, str) else None
    if size is None:
        raise ValueError(f"{value!r} is not WIDTHxHEIGHT")
    return size


def _one_of(*allowed: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"{value!r} is not known; known: {', '.join(allowed)}")
        return value

    return BeforeValidator(check)


Pixels = Annotated[Size, BeforeValidator(_size)]
Name = Annotated[str, Field(pattern=r"^\S+$", max_length=MAX_ID_CHARS)]
Format = Annotated[str, _one_of(*OutputFormat)]
ReferenceFormat = Annotated[str, _one_of(*(kind.lower() for kind in FORMATS))]
Side = Annotated[int, Field(ge=1, le=100_000)]
Area = Annotated[int, Field(ge=0)]

_AT_ITEM = "at_item"
"""The type of a fault found by looking at a whole list; its context has the `place` of the item at fault."""
Faults = Iterator[tuple[tuple[str | int, ...], str]]


class _Form(BaseModel):
    """A table of the file: unknown fields and values of another type are faults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class _Parameters(_Form):
    seed: bool = False
    guidance_scale: bool = False
    watermark: bool = False
    groups: bool = False
    output_formats: list[Format] = Field(["jpeg"], min_length=1)

    def parameters(self) -> Parameters:
        formats = tuple(OutputFormat(name) for name in self.output_formats)
        return Parameters(**{**dict(self), "output_formats": formats})


class _Price(_Form):
    currency: str = Field(pattern="^[A-Z]{3}$")
    per_image: float = Field(ge=0, le=1_000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _whole_micros(self) -> _Price:
        if self._micros() != int(self._micros()):
            raise ValueError("per_image has at most six decimal places")
        return self

    def _micros(self) -> Decimal:
        return Decimal(str(self.per_image)) * MICROS

    def price(self) -> Price:
        return Price(currency=self.currency, micros_per_image=int(self._micros()))


class _Route(_Form):
    provider: Annotated[str, _one_of(*PROVIDERS)]
    upstream: Name | None = None
    price: _Price | None = None


class _Sizes(_Form):
    default: str
    labels: dict[str, Pixels] = Field(default_factory=dict)
    listed: list[Pixels] = Field(default_factory=list)
    min_side_px: Side = 1
    max_side_px: Side = 16_384
    min_area_px: Area = 0
    max_area_px: Area = 0
    max_aspect: float = Field(16.0, ge=1)

    @model_validator(mode="after")
    def _make_sense(self) -> _Sizes:
        if self.min_side_px > self.max_side_px or self.min_area_px > self.max_area_px > 0:
            raise ValueError("min_side_px and min_area_px may not exceed max_side_px and max_area_px")
        rules = self.rules()
        if rules.resolve(self.default) is None:
            allowed = rules.describe() or "nothing, for there are no labels, listed sizes or max_area_px"
            raise ValueError(f"default {self.default!r} is none of the model's sizes; allowed: {allowed}")
        return self

    def rules(self) -> SizeRules:
        return SizeRules(**{**dict(self), "listed": tuple(self.listed)})


class _References(_Form):
    formats: list[ReferenceFormat] = Field([kind.lower() for kind in FORMATS], min_length=1)
    max_bytes: int = Field(MAX_REFERENCE_BYTES, ge=1, le=MAX_REFERENCE_BYTES)
    min_side_px: int = Field(MIN_REFERENCE_SIDE_PX, ge=MIN_REFERENCE_SIDE_PX)
    max_area_px: int = Field(MAX_REFERENCE_PIXELS, ge=1, le=MAX_REFERENCE_PIXELS)
    max_aspect: float = Field(MAX_REFERENCE_ASPECT, ge=1, le=MAX_REFERENCE_ASPECT)

    @model_validator(mode="after")
    def _admit_something(self) -> _References:
        if self.min_side_px**2 > self.max_area_px:
            raise ValueError("min_side_px squared may not exceed max_area_px")
        return self

    def rules(self) -> ReferenceRules:
        return ReferenceRules(**{**dict(self), "formats": tuple(kind.upper() for kind in self.formats)})


class Entry(_Form):
    """One model as a file describes it; `server/providers/catalogue.toml` says what each field means."""

    id: Name
    type: Literal["image"] = "image"
    aliases: list[Name] = Field(default_factory=list)
    routes: list[_Route] = Field(min_length=1)
    min_references: int = Field(0, ge=0, le=MAX_REFERENCES)
    max_references: int = Field(0, ge=0, le=MAX_REFERENCES)
    max_images: int = Field(MAX_IMAGES, ge=1, le=MAX_IMAGES)
    qualities: list[Name] = Field(["standard"], min_length=1)
    retired: date | None = None
    price: _Price | None = None
    parameters: _Parameters = Field(default_factory=_Parameters)
    references: _References = Field(default_factory=_References)
    sizes: _Sizes

    @field_validator("routes")
    @classmethod
    def _one_by_provider(cls, routes: list[_Route]) -> list[_Route]:
        """A task knows its provider alone: of two routes over it the second would never be taken."""
        firsts: dict[str, int] = {}
        for place, route in enumerate(routes):
            first = firsts.setdefault(route.provider, place)
            if first != place:
                reason = f"provider {route.provider!r} stands in routes[{first}] already; each may stand once"
                raise PydanticCustomError(_AT_ITEM, "{reason}", {"reason": reason, "place": place})
        return routes

    @model_validator(mode="after")
    def _fewest_below_most(self) -> Entry:
        if self.min_references > self.max_references:
            raise ValueError("min_references may not exceed max_references")
        return self

    def model(self) -> Model:
        """The model it describes."""
        return Model(
            id=self.id,
            type=TaskType(self.type.upper()),
            aliases=tuple(self.aliases),
            routes=tuple(self._route(route) for route in self.routes),
            sizes=self.sizes.rules(),
            min_references=self.min_references,
            max_references=self.max_references,
            reference_rules=self.references.rules(),
            max_images=self.max_images,
            qualities=tuple(self.qualities),
            retired_date=self.retired,
        )

    def _route(self, route: _Route) -> Route:
        price = route.price or self.price
        return Route(
            provider=route.provider,
            upstream_model=route.upstream or self.id,
            parameters=self.parameters.parameters(),
            price=price.price() if price is not None else None,
        )


_TABLES: dict[str, type[_Form]] = {
    "routes": _Route,
    "price": _Price,
    "parameters": _Parameters,
    "references": _References,
    "sizes": _Sizes,
}


def faults_of(error: ValidationError) -> Faults:
    """Each fault of an entry: where it is, and what is wrong, in words that begin with the field."""
    for fault in error.errors():
        place = fault["loc"]
        if fault["type"] == _AT_ITEM:
            place = (*place, fault["ctx"]["place"])
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        reason = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            tables = [_TABLES[part] for part in place[:-1] if part in _TABLES]
            known = (tables[-1] if tables else Entry).model_fields
            reason = f"is not known; known: {', '.join(sorted(known))}"
        elif fault["type"] == "missing":
            reason = "is missing"
        yield place, f"{path}: {reason}" if path else reason
