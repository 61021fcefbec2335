"""Names of outputs: which are made, and which may be served."""

from __future__ import annotations

import re

import pytest

from server.store.output_links import LINK_SECRET, is_open
from server.store.outputs import (
    MEDIA_TYPES,
    check_key,
    is_public,
    output_key,
    reference_key,
)
from tests.contract.samples import new_id


@pytest.mark.parametrize("extension", ["png", ".png", "jpeg", "webp"])
def test_an_output_has_a_name_that_tells_task_attempt_and_index(extension: str) -> None:
    task_id = new_id()
    key = output_key(task_id, 12, 3, extension)
    pattern = rf"{task_id}/12/3-[A-Za-z0-9_-]{{24}}\.{extension.removeprefix('.')}"
    assert re.fullmatch(pattern, key), "24 characters of base64 are 144 bits"
    assert is_public(key)
    assert not is_open(key), "its name alone is no link"
    check_key(key)


@pytest.mark.parametrize(
    ("key", "opens"),
    [
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuv.png", True),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuvwx.png", False),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuvw.png", False),
        ("references/1/0-abcdefghijklmnopqrstuv.png", False),
        (LINK_SECRET, False),
    ],
)
def test_names_that_were_links_stay_links(key: str, opens: bool) -> None:
    assert is_open(key) is opens


def test_no_two_outputs_get_one_name() -> None:
    assert len({output_key("t", 1, 0, "png") for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("task_id", "attempt", "index", "extension"),
    [
        ("../up", 1, 0, "png"),
        ("a/b", 1, 0, "png"),
        ("", 1, 0, "png"),
        (".", 1, 0, "png"),
        ("references", 1, 0, "png"),
        ("t", -1, 0, "png"),
        ("t", 1, -1, "png"),
        ("t", 1, 0, "html"),
        ("t", 1, 0, ""),
        ("t", 1, 0, "png/../x"),
        ("t" * 200, 1, 0, "png"),
    ],
)
def test_no_other_name_is_made(task_id: str, attempt: int, index: int, extension: str) -> None:
    with pytest.raises(ValueError, match="output"):
        output_key(task_id, attempt, index, extension)


def test_a_reference_is_named_by_its_hash_and_never_served() -> None:
    key = reference_key("0123456789abcdef" * 4)
    check_key(key)
    assert not is_public(key)


@pytest.mark.parametrize(
    "digest", ["", "0" * 63, "0" * 65, "A" * 64, "../" + "0" * 61, "g" * 64, "0" * 64 + "\n"]
)
def test_a_reference_is_named_by_nothing_else(digest: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        reference_key(digest)


@pytest.mark.parametrize(
    "key",
    [
        "",
        LINK_SECRET,
        f"{LINK_SECRET}.png",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuvw.png",
        "references/" + "0" * 64,
        "references/1/0-abcdefghijklmnopqrstuv.png",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/result.json",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0.png",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-short.png",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuv.html",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuv.png\n",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/../1/0-abcdefghijklmnopqrstuv.png",
        "/01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuv.png",
        "x/01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuv.png",
        ".incoming/1/0-abcdefghijklmnopqrstuv.png",
    ],
)
def test_nothing_else_is_served(key: str) -> None:
    assert not is_public(key)


def test_every_extension_is_lower_case_and_has_one_type() -> None:
    for extension, mime_type in MEDIA_TYPES.items():
        assert re.fullmatch(r"\.[a-z]+", extension)
        assert re.fullmatch(r"[a-z]+/[a-z-]+", mime_type)
        assert not mime_type.startswith("text/"), "nothing that a browser would run"
