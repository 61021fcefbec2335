"""The painter's pictures: deterministic, varied, worth looking at, and what the caller asked for."""

from __future__ import annotations

import io
import itertools
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, ImageChops, ImageStat

from server.providers.painter import Picture, paint
from server.providers.painter.scene import Scene, imagine

PROMPTS = (
    "mountains at dawn",
    "a quiet lake",
    "the sea by night",
    "misty forest",
    "雨中的城市",
    "desert with a wanderer",
    "一只可爱的小猫在花园里玩耍",
    "a planet in the galaxy",
    "an aurora over the snow",
    "竹林里的熊猫",
    "something no painter has heard of",
)


def painted(
    prompt: str, *, seed: int = 1, width_px: int = 96, height_px: int = 96, index: int = 0, count: int = 1
) -> Image.Image:
    picture = paint(
        prompt=prompt, seed=seed, width_px=width_px, height_px=height_px, index=index, count=count
    )
    return opened(picture)


def opened(picture: Picture) -> Image.Image:
    with Image.open(io.BytesIO(picture.data)) as image:
        return image.convert("RGB")


def scene(prompt: str, *, seed: int = 1, negative_prompt: str = "") -> Scene:
    return imagine(
        prompt=prompt, seed=seed, index=0, count=1, guidance_scale=None, negative_prompt=negative_prompt
    )


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference (0-255) of the pictures seen from afar."""
    small = [image.resize((32, 32), Image.Resampling.BOX) for image in (one, other)]
    return statistics.mean(ImageStat.Stat(ImageChops.difference(*small)).mean)


def palette_distance(one: Image.Image, other: Image.Image) -> float:
    """How far (0-255) colours would have to move to turn one picture's stock of colours into the other's."""
    distances: list[float] = []
    for bands in zip(one.split(), other.split(), strict=True):
        levels = [sorted(band.resize((48, 48), Image.Resampling.BOX).tobytes()) for band in bands]
        distances.append(sum(abs(a - b) for a, b in zip(*levels, strict=True)) / len(levels[0]))
    return statistics.mean(distances)


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation (-1 to 1) of the brightness of two pictures, seen from afar."""
    levels = [image.convert("L").resize((24, 24), Image.Resampling.BOX).tobytes() for image in (one, other)]
    return statistics.correlation(list(levels[0]), list(levels[1]))


def contours(image: Image.Image) -> Image.Image:
    """How much brightness changes from pixel to pixel: where things stand, whatever light is on them."""
    grey = image.convert("L")
    return ImageChops.difference(grey, ImageChops.offset(grey, 0, 1)).point(
        [min(255, level * 6) for level in range(256)]
    )


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_same_arguments_make_the_same_bytes(image_format: str) -> None:
    first, second = (
        paint(prompt="a lake 湖", seed=7, width_px=160, height_px=120, image_format=image_format)
        for _ in range(2)
    )
    assert first == second


def test_another_process_paints_the_same_bytes() -> None:
    order = "prompt='sea', seed=3, width_px=96, height_px=64, count=3, index=1"
    code = (
        "import sys; from server.providers.painter import paint; "
        f"sys.stdout.buffer.write(paint({order}).data)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert other.stdout == paint(prompt="sea", seed=3, width_px=96, height_px=64, count=3, index=1).data


def test_threads_do_not_disturb_each_other() -> None:
    def picture(seed: int) -> Picture:
        prompt = ("a garden", "the sea", "a desert", "a city")[seed % 4]
        return paint(prompt=prompt, seed=seed, width_px=96, height_px=96)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(picture, range(8))) == [picture(seed) for seed in range(8)]


def test_another_seed_prompt_size_or_index_makes_another_picture() -> None:
    base = painted("a lake")
    assert difference(base, painted("a lake", seed=2)) > 8
    assert difference(base, painted("a city")) > 8
    assert difference(painted("a lake", count=2), painted("a lake", count=2, index=1)) > 8
    wide = painted("a lake", width_px=256, height_px=144)
    assert wide.size == (256, 144)
    assert difference(base, wide) > 3


def test_prompts_and_seeds_look_different() -> None:
    pictures = [painted(prompt, seed=seed) for prompt in PROMPTS for seed in (1, 2)]
    differences = [difference(one, other) for one, other in itertools.combinations(pictures, 2)]
    assert min(differences) > 5
    assert statistics.median(differences) > 30


@pytest.mark.parametrize("prompt", PROMPTS)
def test_pictures_are_neither_flat_nor_noise(prompt: str) -> None:
    image = painted(prompt, seed=5, width_px=256, height_px=256)
    grey = image.convert("L")
    assert ImageStat.Stat(grey).stddev[0] > 12
    assert 4.5 < grey.entropy() < 7.9
    assert len(image.quantize(64).getcolors() or ()) > 24
    neighbours = ImageChops.difference(grey, ImageChops.offset(grey, 1, 0)).crop((1, 0, 256, 256))
    # Noise of the same contrast would differ from pixel to pixel by more than its deviation.
    assert ImageStat.Stat(neighbours).mean[0] < 0.3 * ImageStat.Stat(grey).stddev[0]
    # Upper and lower half show different things: sky and land.
    upper, lower = (ImageStat.Stat(image.crop(box)).mean for box in ((0, 0, 256, 96), (0, 160, 256, 256)))
    assert max(abs(a - b) for a, b in zip(upper, lower, strict=True)) > 8


@pytest.mark.parametrize(("width_px", "height_px"), [(16, 16), (256, 16), (16, 256)])
def test_any_shape_can_be_painted(width_px: int, height_px: int) -> None:
    for prompt in PROMPTS:
        image = painted(prompt, seed=3, width_px=width_px, height_px=height_px)
        assert image.size == (width_px, height_px)
        assert len(image.getcolors(width_px * height_px) or ()) > 20


def test_the_same_place_at_every_size() -> None:
    small = painted("a lighthouse by the sea", width_px=128, height_px=128)
    large = painted("a lighthouse by the sea", width_px=512, height_px=512)
    assert likeness(small, large) > 0.97


@pytest.mark.parametrize(
    ("image_format", "pillow_format"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")]
)
def test_formats(image_format: str, pillow_format: str) -> None:
    picture = paint(prompt="sea", seed=1, width_px=200, height_px=120, image_format=image_format)
    with Image.open(io.BytesIO(picture.data)) as image:
        image.load()
        assert (image.format, image.size, image.mode) == (pillow_format, (200, 120), "RGB")
        assert picture.mime_type == image.get_format_mimetype() == f"image/{image_format}"
    assert (picture.width_px, picture.height_px) == (200, 120)
    lossless = painted("sea", width_px=200, height_px=120)
    assert difference(opened(picture), lossless) < 3


@pytest.mark.parametrize(
    ("width_px", "height_px", "count", "index", "image_format", "message"),
    [
        (15, 100, 1, 0, "png", "15x100"),
        (100, 0, 1, 0, "png", "100x0"),
        (100, 100, 3, 3, "png", "sequence of 3"),
        (100, 100, 1, -1, "png", "sequence of 1"),
        (100, 100, 1, 0, "tiff", "'tiff'"),
    ],
)
def test_impossible_orders_are_refused(
    width_px: int, height_px: int, count: int, index: int, image_format: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paint(
            prompt="sea",
            seed=1,
            width_px=width_px,
            height_px=height_px,
            count=count,
            index=index,
            image_format=image_format,
        )


@pytest.mark.parametrize(("width_px", "height_px"), [(512, 512), (640, 360), (288, 512), (1024, 128)])
@pytest.mark.parametrize("prompt", ["a desert at noon", "the sea by night"])
def test_the_watermark_changes_the_lower_right_corner_alone(
    prompt: str, width_px: int, height_px: int
) -> None:
    plain, marked = (
        opened(paint(prompt=prompt, seed=4, width_px=width_px, height_px=height_px, watermark=watermark))
        for watermark in (False, True)
    )
    changed = ImageChops.difference(plain, marked)
    box = changed.getbbox()
    assert box is not None
    left, top, right, bottom = box
    assert left > width_px * 0.6
    assert top > height_px * 0.75
    assert right > width_px * 0.9
    assert bottom > height_px * 0.9
    # Legible: some of it is much lighter or darker than its surroundings.
    low, high = marked.crop(box).convert("L").getextrema()
    assert isinstance(low, float | int)
    assert isinstance(high, float | int)
    assert high - low > 90


def test_a_sequence_keeps_its_place_and_its_palette() -> None:
    sequences = [
        [painted("a wanderer", seed=seed, index=index, count=4) for index in range(4)] for seed in range(1, 5)
    ]
    singles = [painted("a wanderer", seed=seed) for seed in range(1, 11)]
    within = [pair for pictures in sequences for pair in itertools.combinations(pictures, 2)]
    across = [
        (one, other)
        for first, second in itertools.combinations(sequences, 2)
        for one, other in zip(first, second, strict=True)
    ]
    assert min(difference(*pair) for pair in within) > 4
    of_sequences = statistics.mean(palette_distance(*pair) for pair in within)
    of_seeds = statistics.mean(palette_distance(*pair) for pair in itertools.combinations(singles, 2))
    assert of_sequences < 0.85 * of_seeds
    same_place = statistics.mean(likeness(contours(one), contours(other)) for one, other in within)
    other_place = statistics.mean(likeness(contours(one), contours(other)) for one, other in across)
    assert same_place > 0.6
    assert same_place > other_place + 0.25


def test_words_choose_the_scene() -> None:
    assert scene("一只黑猫在花园").kind == "garden"
    assert (scene("一只黑猫在花园").subject, scene("一只黑猫在花园").coat) == ("cat", "black")
    assert scene("竹林里的熊猫").subject == "panda"
    assert scene("上海的夜").kind == "city"
    assert scene("Ships in a harbour").kind == "sea"
    assert scene("the catalogue of a showcase").subject is None
    for seed in range(5):
        assert scene("a night to remember", seed=seed).palette.darkness > 0.9
        assert scene("正午", seed=seed).palette.darkness == 0
        assert scene("雪", seed=seed).has("snow")


def test_what_the_negative_prompt_names_is_left_out_and_nothing_else_changes() -> None:
    plain = paint(prompt="cat in a garden at noon", seed=6, width_px=256, height_px=256)
    without = paint(
        prompt="cat in a garden at noon", seed=6, width_px=256, height_px=256, negative_prompt="a cat"
    )
    unknown = paint(
        prompt="cat in a garden at noon", seed=6, width_px=256, height_px=256, negative_prompt="blurry"
    )
    assert unknown == plain
    changed = ImageChops.difference(opened(plain), opened(without)).convert("L").point([0] * 9 + [255] * 247)
    assert 0.02 < ImageStat.Stat(changed).mean[0] / 255 < 0.3
    for seed in range(12):
        assert scene("untitled", seed=seed, negative_prompt="city, sea, 沙漠").kind not in (
            "city",
            "sea",
            "desert",
        )


def test_guidance_makes_colours_bolder() -> None:
    def colourfulness(guidance_scale: float) -> float:
        picture = paint(
            prompt="a lake at sunset", seed=2, width_px=160, height_px=160, guidance_scale=guidance_scale
        )
        return ImageStat.Stat(opened(picture).convert("HSV")).mean[1]

    assert colourfulness(1.0) < colourfulness(5.0) < colourfulness(10.0)


def test_a_large_picture_is_painted_quickly() -> None:
    start_s = time.process_time()
    picture = paint(prompt=PROMPTS[6], seed=1, width_px=1024, height_px=1024)
    assert time.process_time() - start_s < 2.5
    assert len(picture.data) < 1_500_000
