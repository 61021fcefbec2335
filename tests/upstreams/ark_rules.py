"""What Ark accepts at its image endpoint: the parameter table of its documentation, model by model.

A field that is null counts as absent: the vendor's own SDK sends every unset field as null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.upstreams.ark_images import Refused, invalid, read_references, read_size, unsupported
from tests.upstreams.ark_models import MODELS, ModelRules

MAX_SEED = 2**31 - 1
MAX_IMAGES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request that Ark accepts."""

    model: str
    prompt: str
    size: str
    """`WIDTHxHEIGHT`: what a label stands for."""
    images: int
    references: int
    b64_json: bool
    png: bool
    stream: bool
    tells_format: bool
    """Whether the answer says of each picture which format it has."""


def check_key(header: str) -> None:
    """Look at an Authorization header; any key will do. Raises Refused as Ark would."""
    kind, _, key = header.partition(" ")
    if kind != "Bearer" or not key.strip():
        raise Refused(401, "AuthenticationError", "The API key is missing or invalid.")


def accept(body: Mapping[str, Any]) -> Order:
    """Read a request body. Raises Refused as Ark would."""
    sent = {name: value for name, value in body.items() if value is not None}
    for name in ("model", "prompt"):
        if not isinstance(sent.get(name), str) or not sent[name]:
            raise Refused(400, "MissingParameter", f"The request is missing `{name}`.", name)
    rules = MODELS.get(sent["model"])
    if rules is None:
        raise Refused(404, "InvalidEndpointOrModel.NotFound", f"Model {sent['model']} does not exist.")
    for name in rules.refused:
        if name in sent:
            raise unsupported(name)
    for name in ("watermark", "stream", "optimize_prompt", "layer_decomposition"):
        if not isinstance(sent.get(name, False), bool):
            raise invalid(name)
    _sampling(sent)
    _prompt_options(sent, rules)
    references = read_references(sent.get("image", []), rules)
    images = _images(sent)
    if references + images > MAX_IMAGES:
        raise invalid("sequential_image_generation_options.max_images")
    return Order(
        model=sent["model"],
        prompt=sent["prompt"],
        size=read_size(sent.get("size", rules.default_size), rules),
        images=images,
        references=references,
        b64_json=_choice(sent, "response_format", ("url", "b64_json"), "url") == "b64_json",
        png=_choice(sent, "output_format", ("jpeg", "png"), "jpeg") == "png",
        stream=sent.get("stream", False),
        tells_format="output_format" not in rules.refused,
    )


def _sampling(sent: Mapping[str, Any]) -> None:
    seed, scale = sent.get("seed", -1), sent.get("guidance_scale", 2.5)
    if not isinstance(seed, int) or isinstance(seed, bool) or not -1 <= seed <= MAX_SEED:
        raise invalid("seed")
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 1 <= scale <= 10:
        raise invalid("guidance_scale")


def _prompt_options(sent: Mapping[str, Any], rules: ModelRules) -> None:
    options = sent.get("optimize_prompt_options", {})
    if not isinstance(options, dict) or options.get("mode", "standard") not in (None, *rules.prompt_modes):
        raise invalid("optimize_prompt_options.mode")
    tools = sent.get("tools", [])
    if not isinstance(tools, list) or any(tool != {"type": "web_search"} for tool in tools):
        raise invalid("tools")


def _images(sent: Mapping[str, Any]) -> int:
    """How many pictures: one, or up to max_images of a sequence."""
    mode = _choice(sent, "sequential_image_generation", ("auto", "disabled"), "disabled")
    options = sent.get("sequential_image_generation_options")
    if mode == "disabled":
        if options is not None:
            raise invalid("sequential_image_generation_options")
        return 1
    wanted = (options or {}).get("max_images")
    wanted = MAX_IMAGES if wanted is None else wanted
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= MAX_IMAGES:
        raise invalid("sequential_image_generation_options.max_images")
    return wanted


def _choice(sent: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = sent.get(name, default)
    if value not in allowed:
        raise invalid(name)
    return str(value)
