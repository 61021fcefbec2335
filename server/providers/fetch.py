"""Downloads what a vendor's result links point at, once a receipt of the links is stored."""

from __future__ import annotations

from server.domain.errors import Reason
from server.downloads import Downloader, reach
from server.ports import DownloadFailed
from server.providers.contract import ProviderError, Sent

MAX_OUTPUT_BYTES = 40 * 1024 * 1024


class OutputFetcher:
    """Reads result links, under the rules of `server.downloads`."""

    def __init__(self, *, allow_private: bool, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._downloader = Downloader(reach(allow_private=allow_private), max_bytes=max_bytes)

    async def fetch(self, link: str, *, timeout_s: float) -> bytes:
        """The bytes behind the link, within `timeout_s`.

        Raises ProviderError OUTPUT_FETCH_FAILED, which is retryable where a later try may succeed. It is in
        doubt, never more: what the link points at has been bought.
        """
        try:
            return await self._downloader.download(link, timeout_s=timeout_s)
        except DownloadFailed as error:
            will = "it is paid for and will be fetched again"
            advice = will if error.retryable else "fetching it again would not help"
            raise ProviderError(
                f"The vendor's link to a made image {error.what}; {advice}.",
                sent=Sent.IN_DOUBT,
                reason=Reason.OUTPUT_FETCH_FAILED,
                retryable=error.retryable,
            ) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._downloader.aclose()
