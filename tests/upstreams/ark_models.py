"""Ark's image models and what each of them takes: the columns of its parameter table."""

from __future__ import annotations

from dataclasses import dataclass

_SAMPLING = ("seed", "guidance_scale")
_GROUPS = ("stream", "sequential_image_generation", "sequential_image_generation_options")
_FIFTH = ("output_format", "tools")
_OLD_FORMATS = frozenset({"JPEG", "PNG"})
_FORMATS = _OLD_FORMATS | {"WEBP", "BMP", "TIFF", "GIF"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """What one model takes."""

    labels: tuple[str, ...] = ()
    default_size: str = "2048x2048"
    min_area_px: int
    max_area_px: int
    """0: labels alone are taken."""
    min_references: int = 0
    max_references: int = 14
    reference_formats: frozenset[str] = _FORMATS
    reference_aspect: int = 16
    refused: tuple[str, ...]
    """Fields that it does not have."""
    prompt_modes: tuple[str, ...] = ("standard",)


_LITE = ModelRules(
    labels=("2K", "3K", "4K"), min_area_px=3_686_400, max_area_px=16_777_216, refused=_SAMPLING
)

MODELS = {
    "doubao-seedream-3-0-t2i-250415": ModelRules(
        default_size="1024x1024",
        min_area_px=262_144,
        max_area_px=4_194_304,
        max_references=0,
        refused=(*_GROUPS, *_FIFTH, "optimize_prompt_options"),
    ),
    "doubao-seededit-3-0-i2i-250628": ModelRules(
        labels=("adaptive",),
        default_size="adaptive",
        min_area_px=0,
        max_area_px=0,
        min_references=1,
        max_references=1,
        reference_formats=_OLD_FORMATS,
        reference_aspect=3,
        refused=(*_GROUPS, *_FIFTH, "optimize_prompt_options"),
    ),
    "doubao-seedream-4-0-250828": ModelRules(
        labels=("1K", "2K", "4K"),
        min_area_px=921_600,
        max_area_px=16_777_216,
        refused=(*_SAMPLING, *_FIFTH),
        prompt_modes=("standard", "fast"),
    ),
    "doubao-seedream-4-5-251128": ModelRules(
        labels=("2K", "4K"),
        min_area_px=3_686_400,
        max_area_px=16_777_216,
        refused=(*_SAMPLING, *_FIFTH),
    ),
    "doubao-seedream-5-0-260128": _LITE,
    "doubao-seedream-5-0-lite-260128": _LITE,
    "doubao-seedream-5-0-pro-260628": ModelRules(
        labels=("1K", "2K"),
        default_size="1024x1024",
        min_area_px=921_600,
        max_area_px=4_624_220,
        max_references=10,
        refused=(*_SAMPLING, *_GROUPS, "tools"),
    ),
}
