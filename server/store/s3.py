"""Output bytes in a bucket of Amazon S3, or of a service that speaks its protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from msgspec import Struct

from server.domain.errors import StoreUnavailable
from server.ports import StoredObject
from server.store.batching import unavailable
from server.store.outputs import check_key, check_media_type

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

Result = TypeVar("Result")

CONNECT_S = 1.5
TIMEOUT_S = 10.0
"""For an answer, and for each silence within one."""
TRANSFER_TIMEOUTS = 12
"""So many times that for the bytes of a file: 65 MiB within two minutes take a link of 5 Mbit/s."""
CONNECTIONS = 50
_OPTIONS = frozenset({"endpoint", "region", "addressing"})
_MISSING = frozenset({"404", "NoSuchKey"})
_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


class Bucket(Struct, frozen=True, kw_only=True):
    """Where a URL `s3://bucket/prefix?endpoint=…&region=…&addressing=…` leads."""

    name: str
    prefix: str
    """Put before every key; empty, or ends in a slash."""
    endpoint: str | None
    """Of the service; None: Amazon's own, by the region."""
    region: str | None
    addressing: str
    """`path` (`endpoint/bucket/key`) or `virtual` (`bucket.endpoint/key`)."""


def read_url(url: str) -> Bucket:
    """What the URL says. Raises ValueError; its text holds nothing of the URL but names of options."""
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if "@" in parts.netloc:
        raise ValueError("an s3 URL holds no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not parts.netloc:
        raise ValueError("an s3 URL names a bucket: s3://bucket/prefix?endpoint=…&region=…")
    if unknown := sorted(set(options) - _OPTIONS):
        raise ValueError(f"an s3 URL has no option {unknown[0]}; known: {', '.join(sorted(_OPTIONS))}")
    endpoint = options.get("endpoint") or None
    if endpoint is not None and urlsplit(endpoint).scheme not in ("https", "http"):
        raise ValueError("the endpoint option of an s3 URL begins with https:// or http://")
    addressing = options.get("addressing") or ("path" if endpoint else "virtual")
    if addressing not in ("path", "virtual"):
        raise ValueError("the addressing option of an s3 URL is path or virtual")
    prefix = unquote(parts.path).strip("/")
    return Bucket(
        name=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=endpoint,
        region=options.get("region") or None,
        addressing=addressing,
    )


class S3OutputStore:
    """`server.ports.OutputStore` in a bucket, which has to exist.

    An object is whole or absent, and carries its media type. A key is written once: it is looked for
    before it is put, and put on the condition that it is not there, which closes the gap between the two
    where the service knows conditional writes (Amazon, MinIO, Ceph, R2 do).
    """

    def __init__(
        self, client: S3Client, closing: AsyncExitStack, bucket: Bucket, *, timeout_s: float
    ) -> None:
        self._client = client
        self._closing = closing
        self._bucket = bucket
        self._timeout_s = timeout_s
        self._closed = False

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        access_key_id: str = "",
        secret_access_key: str = "",
        session_token: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Connect, and see that the bucket is there.

        Credentials that are not given are looked for where programs for AWS do: environment, files, the
        machine's role. Raises ValueError for a bad URL, missing, half or refused credentials, settings for
        AWS that cannot be, and a missing bucket; StoreUnavailable while the service does not answer.
        """
        bucket = read_url(url)
        config = AioConfig(
            connect_timeout=min(CONNECT_S, timeout_s),
            read_timeout=timeout_s,
            max_pool_connections=CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 2},
            s3={"addressing_style": bucket.addressing},
            # Checksums of later S3 versions are refused by services that do not know them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        closing = AsyncExitStack()
        try:
            client = await closing.enter_async_context(
                get_session().create_client(
                    "s3",
                    region_name=bucket.region or ("us-east-1" if bucket.endpoint else None),
                    endpoint_url=bucket.endpoint,
                    aws_access_key_id=access_key_id or None,
                    aws_secret_access_key=secret_access_key or None,
                    aws_session_token=session_token or None,
                    config=config,
                )
            )
        except BotoCoreError as error:
            _raise_if_unfit(error)
            raise unavailable("The output store's credentials cannot be had.") from error
        store = cls(client, closing, bucket, timeout_s=timeout_s)
        try:
            await store._find_bucket()
        except BaseException:
            await store.aclose()
            raise
        return store

    async def put(self, key: str, data: bytes, *, mime_type: str) -> None:
        """See OutputStore. Raises ValueError as `check_key` and `check_media_type` do."""
        check_key(key)
        check_media_type(key, mime_type)
        if not await self._run(lambda: self._exists(key)):
            await self._run(lambda: self._upload(key, data, mime_type), timeouts=TRANSFER_TIMEOUTS)

    async def get(self, key: str) -> StoredObject | None:
        """See OutputStore. Raises ValueError as `check_key` does."""
        check_key(key)
        return await self._run(lambda: self._download(key), timeouts=TRANSFER_TIMEOUTS)

    async def aclose(self) -> None:
        """See OutputStore."""
        self._closed = True
        await self._closing.aclose()

    async def _find_bucket(self) -> None:
        try:
            await self._run(lambda: self._client.head_bucket(Bucket=self._bucket.name))
        except StoreUnavailable as error:
            reason = error.__cause__
            _raise_if_unfit(reason)
            if isinstance(reason, ClientError) and _status(reason) in _MISCONFIGURED:
                raise ValueError(_MISCONFIGURED[_status(reason)]) from reason
            raise

    async def _exists(self, key: str) -> bool:
        try:
            await self._client.head_object(Bucket=self._bucket.name, Key=self._bucket.prefix + key)
        except ClientError as error:
            if _code(error) in _MISSING:
                return False
            raise
        return True

    async def _upload(self, key: str, data: bytes, mime_type: str) -> None:
        try:
            await self._client.put_object(
                Bucket=self._bucket.name,
                Key=self._bucket.prefix + key,
                Body=data,
                ContentType=mime_type,
                IfNoneMatch="*",
            )
        except ClientError as error:
            if _code(error) not in _EXISTS:
                raise
            if not await self._exists(key):  # who was first has not finished, or failed
                raise

    async def _download(self, key: str) -> StoredObject | None:
        try:
            found = await self._client.get_object(Bucket=self._bucket.name, Key=self._bucket.prefix + key)
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        async with found["Body"] as body:
            return StoredObject(data=await body.read(), mime_type=found["ContentType"])

    async def _run(self, operation: Callable[[], Awaitable[Result]], *, timeouts: int = 1) -> Result:
        if self._closed:
            raise unavailable("The output store was closed.")
        try:
            async with asyncio.timeout(timeouts * self._timeout_s):
                return await operation()
        except (BotoCoreError, ClientError, aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            raise unavailable("The output store does not answer, or refuses.") from error


_MISCONFIGURED = {
    301: "the bucket lies in another region: name it with the region option of the URL",
    400: "the request was refused: check the region, and the clock of this machine",
    403: "the credentials are refused, or may not list the bucket: they need s3:ListBucket, s3:GetObject "
    "and s3:PutObject",
    404: "there is no such bucket",
}
"""What the answer to "is the bucket there" means for an operator, by HTTP status."""

_UNFIT: dict[type[BotoCoreError], str] = {
    NoCredentialsError: "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    PartialCredentialsError: "half of the credentials is missing: set both AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
    ProfileNotFound: "AWS_PROFILE names a profile that the files of AWS do not hold",
    ConfigParseError: "AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE cannot be read as a file of AWS",
    NoRegionError: "no region is known: name it with the region option of the URL",
    InvalidRegionError: "the region option of the URL is no name of a region",
    ParamValidationError: "the bucket's name cannot be one: 3 to 63 lower-case letters, digits, dots and "
    "hyphens",
}
"""What errors that no waiting mends mean for an operator."""


def _raise_if_unfit(error: BaseException | None) -> None:
    for kind, meaning in _UNFIT.items():
        if isinstance(error, kind):
            raise ValueError(meaning) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
