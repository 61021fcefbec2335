"""Pages: how many items they hold, and tokens that only this service gives."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.paging import Page, page, token
from server.domain.errors import InvalidRequest


@pytest.mark.parametrize(
    ("asked", "limit"), [(0, 50), (1, 1), (99, 99), (100, 100), (101, 100), (2**31 - 1, 100)]
)
def test_how_many_items_a_page_has(asked: int, limit: int) -> None:
    assert page(asked, "") == Page(after="", limit=limit)


@given(key=st.text())
def test_a_token_leads_behind_the_item_it_names(key: str) -> None:
    assert page(0, token(key)).after == key


@pytest.mark.parametrize(
    "wrong",
    ["!!!!", "abc", "YQ", "ä", "YQ==YQ==", base64.b64encode(b"\xff\xfe").decode(), " YQ=="],
    ids=["no base64", "too short", "no padding", "no ASCII", "two of them", "no UTF-8", "a blank"],
)
def test_a_token_that_was_not_given(wrong: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        page(0, wrong)
    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        page(-1, "!!!!")
    told = {violation.field: violation.description for violation in caught.value.violations}
    assert told["page_size"] == "is -1; allowed: 0 (50) or more, capped at 100"
    assert "allowed: empty, or `next_page_token`" in told["page_token"]
