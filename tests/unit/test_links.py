"""Links: they work until the time they tell, for the key they were made for, wherever the secret is known."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from server.links import ROUND_UP_S, Links

KEY = "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-abcdefghijklmnopqrstuvwx.png"
BASE_URL = "https://images.example/outputs/"
NOON_MS = 1_764_072_000_000
LIFETIME_S = 3600


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ms = NOON_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def links(clock: Clock, *, secret: bytes = b"s" * 32) -> Links:
    return Links(base_url=BASE_URL, secret=secret, lifetime_s=LIFETIME_S, now_ms=clock)


def signature_of(url: str) -> str:
    name, _, value = urlsplit(url).query.partition("=")
    assert name == "signature"
    return value


def test_a_link_holds_the_key_and_tells_its_end(clock: Clock) -> None:
    link = links(clock).mint(KEY)
    assert link.url.startswith(f"{BASE_URL}{KEY}?signature=")
    assert link.expire_time_ms == NOON_MS + LIFETIME_S * 1000
    assert not set("&;|<>*! '\"") & set(link.url), "it can be pasted into a shell"


@pytest.mark.parametrize("later_ms", [0, 1, 59_999, 60_000, 60_001, 86_399_999])
def test_a_link_works_at_least_its_lifetime_and_a_minute_more_at_most(clock: Clock, later_ms: int) -> None:
    clock.now_ms += later_ms
    link = links(clock).mint(KEY)
    assert 0 <= link.expire_time_ms - clock.now_ms - LIFETIME_S * 1000 < ROUND_UP_S * 1000


def test_a_link_works_until_its_end_and_not_after(clock: Clock) -> None:
    link = links(clock).mint(KEY)
    for now_ms, left_s in (
        (NOON_MS, 3600.0),
        (link.expire_time_ms - 1, 0.001),
        (link.expire_time_ms, 0.0),
        (link.expire_time_ms + 3_600_000, -3600.0),
    ):
        clock.now_ms = now_ms
        assert links(clock).seconds_left(KEY, signature_of(link.url)) == pytest.approx(left_s)


def test_a_later_answer_has_a_later_link(clock: Clock) -> None:
    first = links(clock).mint(KEY)
    clock.now_ms += 1
    second = links(clock).mint(KEY)
    clock.now_ms += 59_999
    third = links(clock).mint(KEY)
    assert second.expire_time_ms == first.expire_time_ms + 60_000
    assert first.url != second.url
    assert second == third, "within a minute it is the same one, for caches"


def test_another_secret_gives_no_link(clock: Clock) -> None:
    link = links(clock).mint(KEY)
    assert links(clock, secret=b"t" * 32).seconds_left(KEY, signature_of(link.url)) is None


def test_nothing_about_a_link_can_be_changed(clock: Clock) -> None:
    signature = signature_of(links(clock).mint(KEY).url)
    end_s, sign = signature.split(".")
    wrong = [
        "",
        ".",
        end_s,
        f"{end_s}.",
        f".{sign}",
        sign,
        f"{int(end_s) + 60}.{sign}",
        f"0{end_s}.{sign}",
        f"+{end_s}.{sign}",
        f"{end_s}.{sign[:-1]}",
        f"{end_s}.{sign}=",
        f"{end_s}.{sign.swapcase()}",
        f"{end_s} .{sign}",
        f"{signature}.{sign}",
        "猫.猫",
        "x" * 10_000,
    ]
    for changed in wrong:
        assert links(clock).seconds_left(KEY, changed) is None, changed
    assert links(clock).seconds_left(KEY.replace("/0-", "/1-"), signature) is None
    assert links(clock).seconds_left(KEY, signature) is not None
