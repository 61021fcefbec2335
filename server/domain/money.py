"""Prices and what they add up to, in whole millionths: sums of them are exact."""

from __future__ import annotations

from msgspec import Struct


class Price(Struct, frozen=True, kw_only=True, gc=False):
    """What a provider charges."""

    currency: str
    """ISO 4217 code, as in `CNY`."""
    micros_per_image: int
    """Millionths of the currency's unit for one picture; 0 = free."""


class Cost(Struct, frozen=True, kw_only=True):
    """An amount that is known. What is not known is None, never 0."""

    currency: str
    amount_micros: int
    """Millionths of the currency's unit."""
