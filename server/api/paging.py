"""Pages of a list (AIP-158): how many items one has, and tokens that name the item before it."""

from __future__ import annotations

import base64

from msgspec import Struct

from server.domain.errors import InvalidRequest, Violation

DEFAULT_ITEMS = 50
MAX_ITEMS = 100


class Page(Struct, frozen=True, kw_only=True):
    """What one page is to hold."""

    after: str
    """The key of the last item of the page before; empty: the first page."""
    limit: int
    """At most so many items, at least 1."""


def page(page_size: int, page_token: str) -> Page:
    """The page that a request asks for. Raises InvalidRequest with every violation."""
    wanted, found = read(page_size, page_token)
    if found:
        raise InvalidRequest(found)
    return wanted


def read(
    page_size: int, page_token: str, *, default: int = DEFAULT_ITEMS, most: int = MAX_ITEMS
) -> tuple[Page, list[Violation]]:
    """The page that a request asks for, and what is wrong with that."""
    after = ""
    found: list[Violation] = []
    if page_size < 0:
        description = f"is {page_size}; allowed: 0 ({default}) or more, capped at {most}"
        found.append(Violation(field="page_size", description=description))
    try:
        after = base64.b64decode(page_token, altchars=b"-_", validate=True).decode()
    except ValueError:  # what base64 and UTF-8 raise
        found.append(unknown_token())
    return Page(after=after, limit=min(page_size or default, most)), found


def token(key: str) -> str:
    """The token of the page behind the item with this key."""
    return base64.urlsafe_b64encode(key.encode()).decode("ascii")


def unknown_token() -> Violation:
    """The violation of a token that was not given, or whose item is gone."""
    return Violation(
        field="page_token",
        description="is not one that this method gave; allowed: empty, or `next_page_token` as it came",
    )
