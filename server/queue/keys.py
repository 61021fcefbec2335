"""Every key of the queue, and the one form in which it keeps a task.

All keys share one prefix with a hash tag, so a Redis Cluster keeps them on one shard and a script may
touch all of them. Redis is disposable: whatever is here can be made again from the task store.

A *line* is where a task queues: pool (2 characters), priority (1) and caller (11), written one after
another. `jobs` keeps for each id one string (the same layout is written down in `lua/prelude.lua`):

    r<line>                    ready: an id in the list `q:<line>` that counts
    d<line>                    delayed: in `delayed` until it is due
    l<line><token><lane>       leased: in `leases` until its lease is over, and counted in `load`

An id is in `jobs` until the task store says that its task is over. A list entry whose id is not `r` with
the same line is dead, and a claim skips it: so nothing is ever searched for in a list, and an id that
stands in a list twice does no harm.

`load` counts every lease for its lane (field `l` + lane) and for its caller (`c` + the 11 characters): the
first letter keeps the two apart, whatever a lane is called.

A line that is not empty stands in its ring, or is parked: a claim that finds the caller at its cap takes the
caller out of the ring and writes the ring (pool and priority) into `park:<caller>`. The end of any lease of
the caller brings all its rings back; so does a claim with a higher cap. A parked caller holds at least one
lease, and every lease ends: nobody is parked for good.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from msgspec import Struct

from server.domain.task import Priority

DEFAULT_PREFIX = "{imagegen}:"

TOKEN_LENGTH = 8
"""Characters of a worker's id, which is the token of its leases."""

POOL_LENGTH = 2
CALLER_LENGTH = 11
LINE_LENGTH = POOL_LENGTH + 1 + CALLER_LENGTH

PRIORITY_CODES = {Priority.CRITICAL: "c", Priority.DEFAULT: "d", Priority.LOW: "l"}


class KeyKind(Struct, frozen=True, kw_only=True):
    """One kind of key: its name after the prefix, and what there is to know about it."""

    name: str
    type: str
    writer: str
    meaning: str
    ttl: str = "none"
    stays: bool = False
    """Whether it may exist while no task is queued."""


SCRIPT_KEYS = (
    KeyKind(name="jobs", type="HASH", writer="every script that moves a task", meaning="task id → string"),
    KeyKind(name="leases", type="ZSET", writer="as jobs", meaning="task id → end of its lease, ms"),
    KeyKind(name="delayed", type="ZSET", writer="as jobs", meaning="task id → when it is due, ms"),
    KeyKind(
        name="load",
        type="HASH",
        writer="the scripts that add or remove a lease, in the same step",
        meaning="l + lane → leases that hold room in it ('l' alone: lane not known); c + caller → its leases",
    ),
    KeyKind(name="turn", type="STRING", writer="claim", meaning="the wheel's next turn, 0-9", stays=True),
    KeyKind(
        name="wake",
        type="LIST",
        writer="every script that leaves ready work; taken by waiting workers",
        meaning="at most one token: some work is ready, look",
        stays=True,
    ),
    KeyKind(
        name="swept",
        type="STRING",
        writer="the sweep",
        meaning="<run_id>:<nonce>:<last id>[:complete]: how far this Redis holds what the store holds",
        stays=True,
    ),
    KeyKind(name="ring:c", type="LIST", writer="as jobs", meaning="pools with ready CRITICAL work"),
    KeyKind(name="ring:d", type="LIST", writer="as jobs", meaning="pools with ready DEFAULT work"),
    KeyKind(name="ring:l", type="LIST", writer="as jobs", meaning="pools with ready LOW work"),
    KeyKind(
        name="parked",
        type="ZSET",
        writer="claim; the scripts that remove a lease",
        meaning="callers with a park list → when a claim last found them at their cap, ms",
    ),
    KeyKind(
        name="sweeper",
        type="STRING",
        writer="the sweep",
        meaning="the process that walks the store at present",
        ttl="one lease",
        stays=True,
    ),
)
"""The keys that every script is given, in the order in which `lua/prelude.lua` binds them."""

OTHER_KEYS = (
    KeyKind(
        name="ring:<pool><priority>",
        type="LIST",
        writer="as jobs; its name is built in the scripts",
        meaning="callers with ready work, the next one first; but for those that are parked",
    ),
    KeyKind(
        name="park:<caller>",
        type="LIST",
        writer="as parked; its name is built in the scripts",
        meaning="rings (pool and priority) that a claim took the caller out of, for it was at its cap",
    ),
    KeyKind(
        name="q:<pool><priority><caller>",
        type="LIST",
        writer="as jobs; its name is built in the scripts",
        meaning="ids in the order in which they are claimed",
    ),
)


class QueueKeys(Struct, frozen=True):
    """The names of the keys behind one prefix."""

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not (0 <= self.prefix.find("{") < self.prefix.find("}") - 1):
            raise ValueError("the prefix of the queue's keys needs a hash tag, as in '{imagegen}:'")

    def named(self, name: str) -> str:
        """The key with this name in the table."""
        return self.prefix + name

    @property
    def script_keys(self) -> list[str]:
        """The keys of `SCRIPT_KEYS`, in order."""
        return [self.prefix + kind.name for kind in SCRIPT_KEYS]

    @property
    def events(self) -> str:
        """The pub/sub channel on which the ids of changed tasks are announced."""
        return self.prefix + "events"

    @property
    def cancels(self) -> str:
        """The pub/sub channel on which workers hear the ids of tasks that they shall end."""
        return self.prefix + "cancels"


@lru_cache(maxsize=4_096)
def caller_code(caller: str) -> str:
    """What stands for a caller in the keys: 11 characters of base64url(SHA-256(caller))."""
    return base64.urlsafe_b64encode(hashlib.sha256(caller.encode()).digest())[:CALLER_LENGTH].decode()


def line_of(*, pool: str, priority: Priority, caller: str) -> str:
    """Where a task queues. ValueError when the pool is not two ASCII characters."""
    if len(pool) != POOL_LENGTH or not pool.isascii():
        raise ValueError(f"a pool's code is {POOL_LENGTH} ASCII characters, not {pool!r}")
    return pool + PRIORITY_CODES[priority] + caller_code(caller)


def token_of(worker: str) -> str:
    """The lease token of a worker: its id. ValueError when it is not eight ASCII characters."""
    if len(worker) != TOKEN_LENGTH or not worker.isascii():
        raise ValueError(f"a worker's id is {TOKEN_LENGTH} ASCII characters, not {worker!r}")
    return worker


class Job(Struct, frozen=True, kw_only=True):
    """A string of `jobs`, taken apart."""

    flag: str
    """r, d or l."""
    line: str
    token: str = ""
    lane: str = ""

    @classmethod
    def decode(cls, value: str) -> Job:
        """Take apart what a script wrote."""
        end = 1 + LINE_LENGTH
        return cls(
            flag=value[:1],
            line=value[1:end],
            token=value[end : end + TOKEN_LENGTH],
            lane=value[end + TOKEN_LENGTH :],
        )

    def encode(self) -> str:
        """The string as the scripts write it."""
        return self.flag + self.line + self.token + self.lane
