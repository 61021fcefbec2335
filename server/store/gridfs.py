"""Output bytes in MongoDB's GridFS, for processes on machines that share no disk."""

from __future__ import annotations

import contextlib
import datetime
import secrets
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

import pymongo
from bson.int64 import Int64
from gridfs import AsyncGridFSBucket
from gridfs.errors import CorruptGridFile, NoFile
from pymongo.errors import DuplicateKeyError, PyMongoError

from server.ports import StoredObject
from server.store.batching import unavailable
from server.store.mongo_client import Database
from server.store.outputs import check_key, check_media_type

Result = TypeVar("Result")

BUCKET = "outputs"
LOOK_UP_TIMEOUT_S = 1.2
"""For the entry of a file: a server that is away is known to be before any bytes travel."""
TIMEOUT_S = 10.0
"""For each other step."""
TRANSFER_TIMEOUTS = 12
"""So many times that for the bytes of a file: 65 MiB within two minutes take a link of 5 Mbit/s."""
CHUNK_BYTES = 255 * 1024


class GridFsOutputStore:
    """`server.ports.OutputStore` in a GridFS bucket: `outputs.files` and `outputs.chunks`.

    A file is its chunks first, and then its entry in `outputs.files`, with which it begins to exist. Each
    upload has an id of its own, `<key>:<nonce>`, and the key is the file's name, which a unique index
    gives to one file only. So uploads of one key at the same time, or over the remains of one that was
    cut off, never mix their chunks; the first to write its entry wins, and the bytes under a key never
    change. What a crash, or an entry of unknown outcome, leaves is chunks that no entry leads to: their ids
    begin with the key, so that a range of ids finds them together with the files of a task.
    """

    def __init__(self, database: Database, *, timeout_s: float = TIMEOUT_S) -> None:
        self._database = database
        self._files = database.database[BUCKET]["files"]
        self._chunks = database.database[BUCKET]["chunks"]
        self._bucket = AsyncGridFSBucket(database.database, bucket_name=BUCKET)
        self._timeout_s = timeout_s

    @classmethod
    async def connect(cls, url: str, *, timeout_s: float = TIMEOUT_S) -> Self:
        """Connect, and make the indexes if need be. Raises ValueError for a bad URL, StoreUnavailable."""
        store = cls(Database(url, timeout_s=timeout_s), timeout_s=timeout_s)
        try:
            await store._look_up(lambda: store._files.create_index("filename", unique=True))
            await store._database.run(
                lambda: store._chunks.create_index(["files_id", "n"], unique=True), timeout_s=timeout_s
            )
        except BaseException:
            await store.aclose()
            raise
        return store

    async def put(self, key: str, data: bytes, *, mime_type: str) -> None:
        """See OutputStore. Raises ValueError as `check_key` and `check_media_type` do."""
        check_key(key)
        check_media_type(key, mime_type)
        if await self._look_up(lambda: self._files.find_one({"filename": key}, ["_id"])) is None:
            await self._database.run(
                lambda: self._upload(key, data, mime_type),
                timeout_s=(TRANSFER_TIMEOUTS + 1) * self._timeout_s,
            )

    async def get(self, key: str) -> StoredObject | None:
        """See OutputStore. Raises ValueError as `check_key` does."""
        check_key(key)
        try:
            file = await self._look_up(lambda: self._bucket.open_download_stream_by_name(key))
            data = await self._database.run(file.read, timeout_s=TRANSFER_TIMEOUTS * self._timeout_s)
        except NoFile:
            return None
        except CorruptGridFile as error:
            raise unavailable("Stored bytes are incomplete: they are being removed, or damaged.") from error
        return StoredObject(data=data, mime_type=(file.metadata or {})["mime_type"])

    async def aclose(self) -> None:
        """See OutputStore."""
        await self._database.aclose()

    async def _look_up(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        return await self._database.run(operation, timeout_s=LOOK_UP_TIMEOUT_S)

    async def _upload(self, key: str, data: bytes, mime_type: str) -> None:
        upload_id = f"{key}:{secrets.token_hex(8)}"
        chunks = [
            {"files_id": upload_id, "n": n, "data": data[start : start + CHUNK_BYTES]}
            for n, start in enumerate(range(0, len(data), CHUNK_BYTES))
        ]
        try:
            with pymongo.timeout(TRANSFER_TIMEOUTS * self._timeout_s):
                if chunks:
                    await self._chunks.insert_many(chunks)
        except Exception:
            await self._remove_chunks(upload_id, timeout_s=LOOK_UP_TIMEOUT_S)
            raise
        # From here on an error leaves the chunks alone: the entry may have been written, or be yet.
        entry = {
            "_id": upload_id,
            "filename": key,
            "metadata": {"mime_type": mime_type},
            "chunkSize": CHUNK_BYTES,
            "length": Int64(len(data)),
            "uploadDate": datetime.datetime.now(tz=datetime.UTC),
        }
        try:
            with pymongo.timeout(self._timeout_s):
                await self._files.insert_one(entry)
        except DuplicateKeyError:  # another upload of this key was first
            await self._remove_chunks(upload_id, timeout_s=self._timeout_s)

    async def _remove_chunks(self, upload_id: str, *, timeout_s: float) -> None:
        """If that can be done now: else a range of ids finds them."""
        with contextlib.suppress(PyMongoError), pymongo.timeout(timeout_s):
            await self._chunks.delete_many({"files_id": upload_id})
