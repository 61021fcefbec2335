"""The task store in MongoDB 5 or newer: a standalone server, a replica set or a sharded cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Self, TypeVar

from pymongo.errors import DuplicateKeyError

from server.domain.task import LIVE_STATES, LiveTask, Task
from server.domain.writes import Write
from server.ports import RequestIdRow, WorkerRow
from server.store.batching import Batcher, unavailable
from server.store.documents import (
    INSERT_SLOT,
    LIVE_FIELDS,
    decode_live,
    decode_task,
    encode_task,
    encode_write,
    new_token,
)
from server.store.fields import Document
from server.store.mongo_batches import (
    Insert,
    Update,
    carry_token,
    encoded,
    find_each,
    insert_each,
    insert_new,
    update_each,
)
from server.store.mongo_client import Database

Result = TypeVar("Result")

TIMEOUT_S = 1.2
"""An answer or StoreUnavailable comes within 1.2 times this: callers promise theirs within 2 s."""
MAX_UNSETTLED = 1_024
"""So many writes of unknown outcome are remembered, in case they are given again."""
INSERT_PATH = f"tokens.{INSERT_SLOT}"
VERDICT_PATH = "verdict"
"""Where a worker's row keeps the token of who declared it lost."""


class MongoTaskStore:
    """`server.ports.TaskStore` in the collections `tasks`, `request_ids` and `workers` of one database.

    A write whose outcome is unknown is sent once more, and its token tells whether it took place. That is
    safe, also when the server gets to the first copy late: a write that changes the state or the attempt
    cannot match twice, since no task returns to an earlier pair of them, nor can one that names a revision.
    Only the request of a cancel does neither, and sets the same again.

    After StoreUnavailable the same `Write` object may be given again, and counts as the same write.
    """

    def __init__(self, database: Database, *, timeout_s: float = TIMEOUT_S) -> None:
        self._database = database
        self._tasks = database.database["tasks"]
        self._request_ids = database.database["request_ids"]
        self._workers = database.database["workers"]
        self._timeout_s = timeout_s
        self._unsettled: dict[int, tuple[Write, str]] = {}
        self._inserts = Batcher(self._flush_inserts, name="inserts", timeout_s=timeout_s)
        self._writes = Batcher(self._flush_writes, name="writes", timeout_s=timeout_s)
        self._reads = Batcher(self._flush_reads, name="reads", timeout_s=timeout_s)
        self._claims = Batcher(self._flush_claims, name="claims of request ids", timeout_s=timeout_s)
        self._lookups = Batcher(self._flush_lookups, name="look-ups of request ids", timeout_s=timeout_s)

    @classmethod
    async def connect(cls, url: str, *, timeout_s: float = TIMEOUT_S) -> Self:
        """Connect, and make the index if need be. Raises ValueError for a bad URL, StoreUnavailable."""
        database = Database(url, timeout_s=timeout_s)
        store = cls(database, timeout_s=timeout_s)
        try:
            # For pages of live tasks: two ranges of it, each in order of id, are merged.
            await store._run(lambda: store._tasks.create_index([("state", 1), ("_id", 1)]))
        except BaseException:
            await database.aclose()
            raise
        return store

    # --- tasks ---

    async def insert(self, task: Task) -> bool:
        """See TaskStore."""
        token = new_token()
        document = encoded(encode_task(task, token=token))
        insert = Insert(id=task.id, document=document, token_path=INSERT_PATH, token=token)
        return await self._inserts.submit(insert)

    async def get(self, task_id: str) -> Task | None:
        """See TaskStore."""
        document = await self._reads.submit(task_id)
        return None if document is None else decode_task(document)

    async def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        """See TaskStore."""
        found = await self._find(task_ids)
        return {task_id: decode_task(document) for task_id, document in found.items()}

    async def live_fields(self, task_ids: Sequence[str]) -> Mapping[str, LiveTask]:
        """See TaskStore."""
        found = await self._find(task_ids, LIVE_FIELDS)
        return {task_id: decode_live(document) for task_id, document in found.items()}

    async def write(self, write: Write) -> bool:
        """See TaskStore."""
        if write.state.terminal:
            return False
        _, earlier = self._unsettled.pop(id(write), (write, ""))
        update = _update_of(write, earlier or new_token())
        try:
            if earlier and await self._took_place(update):
                return True
            return await self._writes.submit(update)
        except BaseException:
            # As long as the write is held here, no other object can have its identity.
            self._unsettled[id(write)] = (write, update.token)
            if len(self._unsettled) > MAX_UNSETTLED:
                del self._unsettled[next(iter(self._unsettled))]
            raise

    async def revisions(self, task_ids: Sequence[str]) -> Mapping[str, int]:
        """See TaskStore."""
        found = await self._find(task_ids, ["revision"])
        return {task_id: document["revision"] for task_id, document in found.items()}

    async def cancel_requested(self, task_ids: Sequence[str]) -> Collection[str]:
        """See TaskStore."""
        found = await self._find(task_ids, ["cancel_requested"])
        return {task_id for task_id, document in found.items() if document.get("cancel_requested")}

    async def live_page(self, *, after: str, limit: int) -> Sequence[LiveTask]:
        """See TaskStore."""
        live = {"state": {"$in": sorted(LIVE_STATES)}, "_id": {"$gt": after}}
        page = self._tasks.find(live, LIVE_FIELDS, sort=[("_id", 1)], limit=limit, batch_size=limit)
        return [decode_live(document) for document in await self._run(page.to_list)]

    async def page(self, *, after: str, before: str, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        wanted = {"_id": {"$gt": after, "$lt": before}}
        page = self._tasks.find(wanted, sort=[("_id", 1)], limit=limit, batch_size=limit)
        return [decode_task(document) for document in await self._run(page.to_list)]

    # --- request ids ---

    async def claim_request_id(self, key: str, row: RequestIdRow) -> RequestIdRow:
        """See TaskStore."""
        return await self._claims.submit((key, row))

    async def find_request_id(self, key: str) -> RequestIdRow | None:
        """See TaskStore."""
        return await self._lookups.submit(key)

    # --- workers ---

    async def register_worker(
        self, worker_id: str, *, host: str, pid: int, slots: int = 0, lease_ms: int = 0
    ) -> None:
        """See TaskStore."""
        row = {
            "_id": worker_id,
            "host": host,
            "pid": pid,
            "slots": slots,
            "lease_ms": lease_ms,
            "beat": 0,
            "lost": False,
        }
        try:
            await self._send_twice(lambda: self._workers.insert_one(row))
        except DuplicateKeyError:
            pass  # by an earlier copy of the same insert: no two workers share an id

    async def beat(self, worker_id: str) -> bool:
        """See TaskStore. May rise by two when an answer was lost; that it rises is all that counts."""
        alive = {"_id": worker_id, "lost": False}
        done = await self._send_twice(lambda: self._workers.update_one(alive, {"$inc": {"beat": 1}}))
        return done.matched_count == 1

    async def workers(self) -> Sequence[WorkerRow]:
        """See TaskStore."""
        fields = ["beat", "lost", "slots", "lease_ms"]
        rows = await self._run(self._workers.find({}, fields, sort=[("_id", 1)]).to_list)
        return [
            WorkerRow(
                id=row["_id"],
                beat=row["beat"],
                lost=row["lost"],
                slots=row.get("slots") or 0,
                lease_ms=row.get("lease_ms") or 0,
            )
            for row in rows
        ]

    async def declare_lost(self, worker_id: str, *, beat: int) -> bool:
        """See TaskStore."""
        token = new_token()
        verdict = Update(
            id=worker_id,
            condition={"_id": worker_id, "beat": beat, "lost": False},
            update=encoded({"$set": {"lost": True, VERDICT_PATH: token}}),
            token_path=VERDICT_PATH,
            token=token,
        )
        (result,) = await update_each(self._database, self._workers, [verdict], timeout_s=self._timeout_s)
        return result is True

    async def remove_worker(self, worker_id: str) -> None:
        """See TaskStore."""
        await self._send_twice(lambda: self._workers.delete_one({"_id": worker_id}))

    # --- life ---

    async def ping(self) -> None:
        """See TaskStore. Asks the server that our writes would go to whether it takes them."""
        hello = await self._run(self._database.hello)
        if not hello.get("isWritablePrimary"):
            raise unavailable("The task store has no primary that takes writes.")

    async def aclose(self) -> None:
        """See TaskStore."""
        for batcher in (self._inserts, self._writes, self._reads, self._claims, self._lookups):
            await batcher.aclose()
        await self._database.aclose()

    # --- batches ---

    async def _flush_inserts(self, inserts: Sequence[Insert], timeout_s: float) -> list[bool | Exception]:
        return await insert_each(self._database, self._tasks, inserts, timeout_s=timeout_s)

    async def _flush_writes(self, updates: Sequence[Update], timeout_s: float) -> list[bool | Exception]:
        return await update_each(self._database, self._tasks, updates, timeout_s=timeout_s)

    async def _flush_reads(self, task_ids: Sequence[str], timeout_s: float) -> list[Document | None]:
        found = await self._database.run(partial(find_each, self._tasks, task_ids), timeout_s=timeout_s)
        return [found.get(task_id) for task_id in task_ids]

    async def _flush_claims(
        self, claims: Sequence[tuple[str, RequestIdRow]], timeout_s: float
    ) -> list[RequestIdRow | Exception]:
        documents = [
            encoded({"_id": key, "task_id": row.task_id, "fingerprint": row.fingerprint})
            for key, row in claims
        ]

        async def claim() -> list[RequestIdRow | Exception]:
            errors = await insert_new(self._request_ids, documents)
            earlier = await find_each(self._request_ids, [claims[place][0] for place in errors])
            rows: list[RequestIdRow | Exception] = [row for _, row in claims]
            for place, error in errors.items():
                held = earlier.get(claims[place][0])
                rows[place] = _row_of(held) if held is not None else error
            return rows

        return await self._database.run_twice(claim, again=claim, timeout_s=timeout_s)

    async def _flush_lookups(self, keys: Sequence[str], timeout_s: float) -> list[RequestIdRow | None]:
        found = await self._database.run(partial(find_each, self._request_ids, keys), timeout_s=timeout_s)
        return [_row_of(found[key]) if key in found else None for key in keys]

    async def _find(
        self, task_ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Document]:
        return await self._run(partial(find_each, self._tasks, task_ids, fields))

    async def _took_place(self, update: Update) -> bool:
        return (await self._run(partial(carry_token, self._tasks, [update])))[0]

    async def _run(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        return await self._database.run(operation, timeout_s=self._timeout_s)

    async def _send_twice(self, send: Callable[[], Awaitable[Result]]) -> Result:
        return await self._database.run_twice(send, again=send, timeout_s=self._timeout_s)


def _update_of(write: Write, token: str) -> Update:
    change = encode_write(write, token=token)
    update: Document = {"$set": change.set, "$inc": {"revision": 1}}
    if change.unset:
        update["$unset"] = dict.fromkeys(change.unset, "")
    condition: Document = {"_id": change.task_id, "state": change.state, "attempt": change.attempt}
    if change.revision is not None:
        condition["revision"] = change.revision
    return Update(
        id=change.task_id,
        condition=condition,
        update=encoded(update),
        token_path=change.token_path,
        token=change.token,
    )


def _row_of(document: Document) -> RequestIdRow:
    return RequestIdRow(task_id=document["task_id"], fingerprint=document["fingerprint"])
