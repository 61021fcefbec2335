"""The whole service in front of a loopback Ark: an API process and a worker, and an Ark of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.api.deployment import Deployment, called, deployed
from tests.stack import Calls, ServiceProcess
from tests.upstreams import ArkUpstream
from tests.upstreams.wire import HOST, bound

PRICED = "doubao-seedream-4-5-251128"
"""The one model with a price; the built-in catalogue knows none of a vendor's."""
PRICE_MICROS = 259_000
OWN_FILE = f"""
[[model]]
id = "{PRICED}"
price = {{ currency = "CNY", per_image = {PRICE_MICROS / 1_000_000} }}
"""


@pytest.fixture(scope="session")
def ark_port() -> Iterator[int]:
    """A port that nobody else gets; each test's Ark listens at it."""
    place = bound(0)
    yield int(place.getsockname()[1])
    place.close()


@pytest.fixture(scope="session")
def service(ark_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An API process and a worker that know one vendor, one price, and try what may be tried again once."""
    own = tmp_path_factory.mktemp("catalogue") / "models.toml"
    own.write_text(OWN_FILE)
    with deployed(
        MODEL_CATALOGUE=str(own),
        IMAGE_API_KEY="sk-any",
        IMAGE_BASE_URL=f"http://{HOST}:{ark_port}",
        IMAGE_MAX_RETRIES="1",
        OUTPUT_FETCH_ALLOW_PRIVATE="true",
    ) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def worker(service: Deployment) -> ServiceProcess:
    """Its worker."""
    return service.stack.start("worker")


@pytest.fixture
async def ark(ark_port: int, worker: ServiceProcess) -> AsyncIterator[ArkUpstream]:
    """The vendor."""
    async with ArkUpstream(port=ark_port) as upstream:
        yield upstream


@pytest.fixture
async def calls(service: Deployment) -> AsyncIterator[Calls]:
    """Stubs of the API process."""
    async with called(service) as stubs:
        yield stubs
