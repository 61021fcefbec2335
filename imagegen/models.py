"""A model in one line: what a person wants to know before asking for a picture."""

from __future__ import annotations

from image.v1.image_service_pb2 import OutputFormat
from model.v1.model_pb2 import Model, ModelRoute, SizeRules

from imagegen.timeline import price

HEADERS = ("model", "by", "price", "sizes", "references", "takes", "formats")


def columns(model: Model) -> tuple[str, ...]:
    """Texts for HEADERS: of the route that serves the model now, of the first one where none does."""
    name = f"{model.id}, retired {model.retired_date}" if model.retired else model.id
    route = next((r for r in model.routes if r.provider == model.provider), None)
    shown = route or (model.routes[0] if model.routes else ModelRoute())
    return (
        name,
        model.provider or f"{shown.provider} (not set up)".strip(),
        price(shown.price_per_image) if shown.HasField("price_per_image") else "not known",
        sizes(model.sizes),
        _span(model.limits.min_reference_images, model.limits.max_reference_images),
        ", ".join(_taken(shown)) or "-",
        ", ".join(_format(number) for number in shown.parameters.output_formats),
    )


def sizes(rules: SizeRules) -> str:
    """The sizes, bounds in megapixels; with bounds, listed sizes are mere advice and left out."""
    parts = [label.label for label in rules.labels]
    if rules.HasField("bounds"):
        low, high = rules.bounds.min_area_px / 1e6, rules.bounds.max_area_px / 1e6
        return ", ".join([*parts, f"WxH of {low:.2g} to {high:.3g} megapixels"])
    return ", ".join([*parts, *rules.sizes])


def _taken(route: ModelRoute) -> list[str]:
    takes = route.parameters
    return [name for name in ("seed", "guidance_scale", "watermark", "groups") if getattr(takes, name)]


def _span(least: int, most: int) -> str:
    if not most:
        return "-"
    return str(most) if least == most else f"{least}-{most}"


def _format(number: int) -> str:
    known = number in OutputFormat.values()
    return OutputFormat.Name(number).removeprefix("OUTPUT_FORMAT_").lower() if known else f"format {number}"
