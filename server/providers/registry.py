"""The providers that this version has, and those of them that a deployment has set up."""

from __future__ import annotations

from server.domain.catalogue import LOCAL
from server.providers.contract import Provider

ARK = "ark"
WITH_ADAPTER = frozenset({LOCAL, ARK})
"""Names of the providers that can be set up here."""


def configured(*, ark_api_key: str) -> frozenset[str]:
    """The providers that `build` gives for the same credentials: a vendor without a key is not set up."""
    return frozenset({LOCAL, ARK}) if ark_api_key.strip() else frozenset({LOCAL})


def build(*, ark_api_key: str, ark_base_url: str, fetch_private: bool) -> dict[str, Provider]:
    """The configured providers by name; each is to be closed. Opens no connection.

    `fetch_private`: whether results may be fetched over http and from private addresses.
    """
    # Imported here: a process that only asks for names needs neither painter nor vendors.
    from server.providers.ark import ArkProvider
    from server.providers.fetch import OutputFetcher
    from server.providers.local import LocalProvider

    providers: list[Provider] = [LocalProvider()]
    if ARK in configured(ark_api_key=ark_api_key):
        fetcher = OutputFetcher(allow_private=fetch_private)
        providers.append(ArkProvider(api_key=ark_api_key, base_url=ark_base_url, fetcher=fetcher))
    return {provider.name: provider for provider in providers}
