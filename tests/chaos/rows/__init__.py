"""The rows of the kill matrix, by name."""

from __future__ import annotations

from tests.chaos.rows import apis, cancels, fairness, idle, redis, rolling, stores, upstreams, workers
from tests.chaos.run import Row

ROWS = {
    row.name: row
    for row in (
        Row("worker-kill", "SIGKILL of a worker", workers.worker_kill, "recovery 6 s", on_mongo=True),
        Row(
            "worker-kill-15s",
            "SIGKILL of 20 workers at the default lease",
            workers.at_the_default_lease,
            "recovery 30 s",
            on_mongo=True,
        ),
        Row("api-kill", "SIGKILL of the API during submits", apis.api_kill, "same id", on_mongo=True),
        Row("duplicates", "50 duplicates of each id, with kills", apis.duplicates, "one task", on_mongo=True),
        Row("upstream-cuts", "vendor cut at connect, send, wait, read", upstreams.cuts, "max_paid"),
        Row("gateways", "502, 503, 504, unreadable 200", upstreams.gateways, "never blindly"),
        Row(
            "after-answer",
            "SIGKILL after the vendor's answer",
            workers.after_answer,
            "billed once",
            on_mongo=True,
        ),
        Row("cancel", "SIGKILL after a cancel", cancels.cancelled, "CANCELLED in 6 s", on_mongo=True),
        Row("redis-flush", "FLUSHALL", redis.flush, "60 s", on_mongo=True),
        Row("redis-stopped", "Redis stopped 7 s", redis.stopped, "60 s", on_mongo=True),
        Row("redis-stopped-long", "Redis stopped past a lease", redis.stopped_long, "60 s", on_mongo=True),
        Row("redis-empty", "Redis killed, restarted empty", redis.empty, "60 s", on_mongo=True),
        Row("redis-stale", "Redis replaced by a stale copy", redis.stale, "60 s", on_mongo=True),
        Row("store-stopped", "store away 10 s", stores.store_stopped, "billed once"),
        Row("fencing", "SIGSTOP past the lease, SIGCONT", workers.fencing, "0 stale writes"),
        Row("rolling-restart", "SIGTERM one by one, under load", rolling.rolling_restart, "0 failed calls"),
        Row("fair-share", "a flood of 10,000 by one caller", fairness.fair_share, "p95 twice alone"),
        Row("idle", "nothing for five minutes", idle.idle, "1 % of a core"),
    )
}
