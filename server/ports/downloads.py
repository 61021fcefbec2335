"""What others keep for us behind links."""

from __future__ import annotations

from typing import Protocol


class DownloadFailed(Exception):
    """A link gave no bytes. `what` is said of "the link"; `retryable`: may it give them later?

    `refused`: its server answered, and would not give them. None holds anything of the link itself.
    """

    def __init__(self, what: str, *, retryable: bool, refused: bool = False) -> None:
        super().__init__(f"The link {what}.")
        self.what = what
        self.retryable = retryable
        self.refused = refused


class Downloads(Protocol):
    """Reads links that others gave us, as far as the deployment lets links lead."""

    def check(self, link: str) -> None:
        """Raise DownloadFailed for a link of a form that is never read, whatever lies behind it."""
        ...

    async def download(self, link: str, *, timeout_s: float) -> bytes:
        """All bytes behind the link, within `timeout_s`. Raises DownloadFailed."""
        ...
