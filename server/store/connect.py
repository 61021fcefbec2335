"""From URLs to stores.

sqlite:///absolute/path.db    sqlite:relative/path.db    add ?synchronous=FULL to survive power cuts
mongodb://…  mongodb+srv://…  the task store, or GridFS as the output store
file:///absolute/directory    file:relative/directory
s3://bucket/prefix?endpoint=https://…&region=…&addressing=path|virtual    without an endpoint Amazon's own
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from server.ports import OutputStore, TaskStore
from server.store.batching import TIMEOUT_S
from server.store.outputs import TIMEOUT_S as OUTPUTS_TIMEOUT_S
from server.store.outputs import FilesystemOutputStore

_MONGO = ("mongodb", "mongodb+srv")


@dataclass(frozen=True, slots=True, kw_only=True)  # no struct: those show every field
class S3Keys:
    """Credentials for s3 URLs; empty: looked for where programs for AWS do."""

    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


async def open_store(url: str, *, timeout_s: float = TIMEOUT_S) -> TaskStore:
    """The task store of this URL; its answers, or StoreUnavailable, come within 1.2 times `timeout_s`.

    Raises ValueError for a URL that cannot be one, StoreUnavailable, and IncompatibleStore
    (`server.store.sqlite_file`).
    """
    parts = urlsplit(url)
    # Each adapter is imported when asked for: pymongo alone takes a noticeable part of the start.
    if parts.scheme == "sqlite":
        from server.store.sqlite import SqliteTaskStore

        match parse_qs(parts.query).get("synchronous", ["NORMAL"])[-1].upper():
            case "NORMAL" | "FULL" as synchronous:
                return await SqliteTaskStore.open(_path(parts), synchronous=synchronous, timeout_s=timeout_s)
            case _:
                raise ValueError("the synchronous option of a sqlite URL is NORMAL or FULL")
    if parts.scheme in _MONGO:
        from server.store.mongo import MongoTaskStore

        return await MongoTaskStore.connect(url, timeout_s=timeout_s)
    raise ValueError(_expected("the task store", parts.scheme, "sqlite:///path or mongodb://host/database"))


async def open_outputs(
    url: str, *, keys: S3Keys = S3Keys(), timeout_s: float = OUTPUTS_TIMEOUT_S
) -> OutputStore:
    """The output store of this URL; one whole image is written or read within `timeout_s`.

    `keys` are for s3 alone. Raises ValueError for a URL that cannot be one, and StoreUnavailable.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return await FilesystemOutputStore.open(_path(parts), timeout_s=timeout_s)
    if parts.scheme in _MONGO:
        from server.store.gridfs import GridFsOutputStore

        return await GridFsOutputStore.connect(url, timeout_s=timeout_s)
    if parts.scheme == "s3":
        try:
            from server.store.s3 import S3OutputStore
        except ModuleNotFoundError as error:
            raise ValueError("s3 URLs need the extra `s3`: pip install '.[server,s3]'") from error

        return await S3OutputStore.connect(url, **asdict(keys), timeout_s=timeout_s)
    raise ValueError(
        _expected(
            "the output store",
            parts.scheme,
            "file:///directory, mongodb://host/database or s3://bucket/prefix",
        )
    )


def _path(parts: SplitResult) -> Path:
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or path in ("", "/"):
        raise ValueError(
            f"{parts.scheme} takes a path: {parts.scheme}:///absolute/path or {parts.scheme}:relative/path"
        )
    # `//absolute`, as some libraries write it, is the same file; `/./here` can only be meant as relative.
    path = f"/{path.lstrip('/')}" if path.startswith("/") else path
    return Path(path[1:] if path.startswith(("/./", "/../")) else path)


def _expected(what: str, scheme: str, forms: str) -> str:
    # Never the URL itself: it may hold a password.
    return f"the URL of {what} begins with {scheme or 'nothing'}:, expected {forms}"
