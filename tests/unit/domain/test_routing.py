"""Who makes a model's images: configured providers, groups of them, the stand-in, and nobody."""

from __future__ import annotations

import pytest

from server.domain.catalogue import Model, Route, SizeRules
from server.domain.errors import InvalidRequest, ProviderNotConfigured
from server.domain.routing import Routing, pool_code

SIZES = SizeRules(default="64x64")


def model(*providers: str) -> Model:
    return Model(
        id="seedream",
        routes=tuple(Route(provider=p, upstream_model=f"{p}-seedream") for p in providers),
        sizes=SIZES,
    )


BOTH = model("jimeng", "ark")
LOCAL_ONLY = model("local")


def choose(served: Model, wanted: str, *, configured: str = "", stand_in: bool = False) -> tuple[str, str]:
    route = Routing(configured=frozenset(configured.split()), stand_in=stand_in).choose(served, wanted)
    return route.provider, route.upstream_model


@pytest.mark.parametrize(
    ("wanted", "configured", "provider"),
    [
        ("", "ark jimeng", "jimeng"),  # the first route
        ("", "ark openai", "ark"),  # the first that is set up
        ("ark", "ark jimeng", "ark"),
        ("jimeng", "ark jimeng", "jimeng"),
        ("volcengine", "ark jimeng", "jimeng"),  # a group: its first route
        ("volcengine", "ark", "ark"),
    ],
)
def test_the_first_configured_route_that_was_asked_for(wanted: str, configured: str, provider: str) -> None:
    assert choose(BOTH, wanted, configured=configured) == (provider, f"{provider}-seedream")


@pytest.mark.parametrize("wanted", ["", "ark", "jimeng", "volcengine", "local"])
def test_the_stand_in_takes_the_place_of_vendors(wanted: str) -> None:
    assert choose(BOTH, wanted, configured="local", stand_in=True) == ("local", "seedream")


@pytest.mark.parametrize(("wanted", "provider"), [("ark", "ark"), ("local", "local"), ("", "ark")])
def test_a_configured_vendor_needs_no_stand_in(wanted: str, provider: str) -> None:
    assert choose(BOTH, wanted, configured="ark local", stand_in=True)[0] == provider


@pytest.mark.parametrize("stand_in", [True, False])
@pytest.mark.parametrize("wanted", ["", "local"])
def test_a_local_model_is_always_made_locally(wanted: str, stand_in: bool) -> None:
    assert choose(LOCAL_ONLY, wanted, configured="local", stand_in=stand_in) == ("local", "local-seedream")


@pytest.mark.parametrize(
    ("wanted", "named"),
    [("", "jimeng, ark"), ("ark", "ark"), ("volcengine", "jimeng, ark")],
)
def test_a_vendor_that_is_not_set_up_is_named(wanted: str, named: str) -> None:
    with pytest.raises(ProviderNotConfigured) as caught:
        choose(BOTH, wanted, configured="local openai")
    assert caught.value.metadata == {"model": "seedream", "provider": named}
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("served", "wanted", "stand_in", "allowed"),
    [
        (BOTH, "openai", False, "empty, jimeng, ark, volcengine"),
        (BOTH, "openai", True, "empty, jimeng, ark, volcengine, local"),
        (BOTH, "local", False, "empty, jimeng, ark, volcengine"),
        (LOCAL_ONLY, "ark", True, "empty, local"),
        (LOCAL_ONLY, "volcengine", False, "empty, local"),
        (BOTH, "x" * 200, False, "empty, jimeng, ark, volcengine"),
    ],
)
def test_a_provider_that_does_not_serve_the_model(
    served: Model, wanted: str, stand_in: bool, allowed: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(served, wanted, configured="local ark jimeng openai", stand_in=stand_in)
    [violation] = caught.value.violations
    assert violation.field == "provider"
    assert violation.description.endswith(f"does not serve seedream; allowed: {allowed}")
    assert len(violation.description) < 200, "what a caller sent is not repeated at any length"


def test_a_pool_is_named_by_two_characters() -> None:
    assert [pool_code(name) for name in ("ark", "jimeng", "openai", "local")] == ["ar", "ji", "op", "lo"]
