"""Downloads what a vendor's result links point at, once a receipt of the links is stored."""

from __future__ import annotations

from server.domain.errors import Reason
from server.downloads import Downloader, reach
from server.ports import DownloadFailed
from server.providers.contract import ProviderError, Sent

MAX_OUTPUT_BYTES = 65 * 1024 * 1024
"""The largest picture of the catalogue, 4096x4096, as a PNG that nothing could be saved in."""


class OutputFetcher:
    """Reads result links, under the rules of `server.downloads`."""

    def __init__(self, *, allow_private: bool, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._downloader = Downloader(reach(allow_private=allow_private), max_bytes=max_bytes)

    async def fetch(self, link: str, *, timeout_s: float) -> bytes:
        """The bytes behind the link, within `timeout_s`.

        Raises ProviderError OUTPUT_FETCH_FAILED, which is retryable where a later try may succeed: also
        where the link is refused, for a store may be slow to know what it holds. It is in doubt, never
        more: what the link points at has been bought.
        """
        try:
            return await self._downloader.download(link, timeout_s=timeout_s)
        except DownloadFailed as error:
            retryable = error.retryable or error.refused
            again = "it is paid for: only its fetching is repeated"
            advice = again if retryable else "fetching it again would not help"
            raise ProviderError(
                f"The vendor's link to a made image {error.what}; {advice}.",
                sent=Sent.IN_DOUBT,
                reason=Reason.OUTPUT_FETCH_FAILED,
                retryable=retryable,
                unlikely=error.refused,
            ) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._downloader.aclose()
