"""Random operations and crashes over the real parts: a task ends once, and everything promised holds.

The machine is Hypothesis' own: it chooses what happens next, and shrinks what broke a promise.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, Task, TaskState
from server.providers.contract import ProviderError, Sent
from server.queue.sweep import COMPARE_INTERVAL_MS
from tests.integration.life.world import TTL_MS, Deployment, Node
from tests.integration.worker.scripted import refusal
from tests.redis_server import assert_no_leaked_keys

which = st.integers(0, 7)


class Life(RuleBasedStateMachine):
    """What may happen to a deployment.

    A rule that has nothing to act upon does nothing, and none has a precondition: what is open at a moment
    depends on real time, and Hypothesis must be able to draw the same rules again.
    """

    redis_url = ""
    redis_prefix = ""
    directory = Path()

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ended: dict[str, Task] = {}
        self.snapshot: dict[str, bytes] = {}

    @initialize(receipts=st.booleans())
    def begin(self, receipts: bool) -> None:
        where = Path(mkdtemp(dir=self.directory))
        self.deployment = self.runner.run(Deployment.start(where, self.redis_url, self.redis_prefix))
        self.deployment.counter.receipts = receipts
        for max_paid in (1, 2):
            self.runner.run(self.deployment.add_node())
            self.runner.run(self.deployment.submit(images=max_paid, max_paid=max_paid, enqueue=True))
        self.runner.run(self.deployment.claim(self.alive(0), 2))

    # --- callers ------------------------------------------------------------------------------------

    @rule(images=st.sampled_from([1, 1, 3]), max_paid=st.integers(1, 2), enqueue=st.booleans())
    def submit(self, images: int, max_paid: int, enqueue: bool) -> None:
        self.runner.run(self.deployment.submit(images=images, max_paid=max_paid, enqueue=enqueue))

    @rule(task=which)
    def cancel(self, task: int) -> None:
        ids = sorted(self.deployment.accepted)
        self.runner.run(self.deployment.cancel(ids[task % len(ids)]))

    # --- workers and the provider -------------------------------------------------------------------

    @rule(node=which, free=st.integers(1, 3))
    def claim(self, node: int, free: int) -> None:
        self.runner.run(self.deployment.claim(self.alive(node), free))

    @rule(call=which, stages=st.integers(1, 3))
    def go_on(self, call: int, stages: int) -> None:
        for _ in range(stages):
            if self.deployment.counter.open:
                self.runner.run(self.deployment.step_call(call, lambda _: None))

    @rule()
    def the_oldest_call_goes_on(self) -> None:
        if self.deployment.counter.open:
            self.runner.run(self.deployment.step_call(0, lambda _: None))

    @rule(call=which)
    def one_call_comes_to_its_end(self, call: int) -> None:
        if calls := self.deployment.counter.open:
            self.runner.run(self.deployment.finish_calls(calls[call % len(calls)].task_id))

    @rule(cap=st.integers(0, 2))
    def workers_come_and_go(self, cap: int) -> None:
        """The share of all slots that one user may have changes with them."""
        self.deployment.caller_cap = cap

    @rule(node=which)
    def everything_is_offered_again(self, node: int) -> None:
        self.runner.run(self.deployment.board.expire_leases())
        self.runner.run(self.deployment.sweep_until_quiet())
        self.runner.run(self.deployment.claim(self.alive(node), 8))

    @rule(call=which, busy=st.booleans(), for_good=st.booleans())
    def fail(self, call: int, busy: bool, for_good: bool) -> None:
        def error(asking: bool) -> ProviderError:
            if not asking:
                return refusal(sent=Sent.IN_DOUBT, reason=Reason.PROVIDER_TIMEOUT)
            return refusal(
                sent=Sent.REJECTED,
                reason=Reason.RATE_LIMITED if busy else Reason.CONTENT_POLICY_INPUT,
                retryable=busy or not for_good,
                no_capacity=busy,
            )

        if self.deployment.counter.open:
            self.runner.run(self.deployment.step_call(call, error))

    @rule(node=which)
    def kill(self, node: int) -> None:
        killed = self.alive(node)
        self.runner.run(self.deployment.kill(killed))
        self.runner.run(self.deployment.declare_lost(killed))
        self.runner.run(self.deployment.add_node())

    @rule(node=which)
    def stop(self, node: int) -> None:
        self.runner.run(self.deployment.stop(self.alive(node)))
        self.runner.run(self.deployment.add_node())

    @rule(node=which)
    def declare_lost(self, node: int) -> None:
        """A worker that is only slow may be declared lost: it goes on, not knowing."""
        nodes = self.deployment.nodes
        self.runner.run(self.deployment.declare_lost(nodes[node % len(nodes)]))

    @rule(node=which)
    def overtake(self, node: int) -> None:
        """Declared lost with work in hand, it goes on beside its successor, not knowing."""
        self.runner.run(self.deployment.declare_lost(self.alive(node)))
        self.runner.run(self.deployment.board.expire_leases())
        self.runner.run(self.deployment.sweep_until_quiet())
        heir = self.runner.run(self.deployment.add_node())
        self.runner.run(self.deployment.claim(heir, 8))

    # --- Redis and time -----------------------------------------------------------------------------

    @rule()
    def flush(self) -> None:
        self.runner.run(self.deployment.flush())

    @rule()
    def remember_redis(self) -> None:
        self.snapshot = dict(self.runner.run(self.deployment.board.snapshot()))

    @rule()
    def fail_over_to_a_stale_copy(self) -> None:
        if self.snapshot:
            self.runner.run(self.deployment.board.restore(self.snapshot))

    @rule()
    def leases_expire(self) -> None:
        self.runner.run(self.deployment.board.expire_leases())

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.deployment.sweep.step())

    @rule()
    def a_third_of_the_ttl_passes(self) -> None:
        self.deployment.time_shift_ms += TTL_MS // 3

    # --- what always holds ----------------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "deployment"):
            self.runner.run(self.check())

    async def check(self) -> None:
        for task_id in self.deployment.accepted:
            task = await self.deployment.read(task_id)
            if task_id in self.ended:
                assert task == self.ended[task_id], "a terminal task has changed"
            elif task.state.terminal:
                self.ended[task_id] = task
            for index in range(task.images_wanted):
                sold = self.deployment.counter.sold[task_id, index]
                assert sold <= task.max_paid_attempts, "money is bounded"
                doubts = [a for a in task.attempts.values() if a.outcome is AttemptOutcome.IN_DOUBT]
                assert sold <= 1 + len(doubts), "a second call only after a recorded doubt"
            open_attempts = [n for n, attempt in task.attempts.items() if attempt.outcome is None]
            assert open_attempts == ([task.attempt] if task.state is TaskState.PROCESSING else [])

    def teardown(self) -> None:
        try:
            if hasattr(self, "deployment"):
                try:
                    self.runner.run(self.settle())
                finally:
                    self.runner.run(self.deployment.aclose())
        finally:
            self.runner.close()

    async def settle(self) -> None:
        """Everybody is replaced, time passes, the provider delivers: every task comes to its end."""
        deployment = self.deployment
        for node in deployment.nodes:
            await deployment.kill(node)
            await deployment.declare_lost(node)
        heir = await deployment.add_node()
        for _ in range(30):
            # Longer than any wait here, and until the next full compare: ids are minted by a clock that does
            # not jump, so a jump of the others' can carry the sweep's marker past a task it has not seen.
            deployment.time_shift_ms += COMPARE_INTERVAL_MS + 1
            await deployment.board.make_due()
            await deployment.board.expire_leases()
            await deployment.sweep_until_quiet()
            await deployment.claim(heir, 100)
            while deployment.counter.open:
                await deployment.step_call(0, lambda _: None)
            await self.check()
            if len(self.ended) == len(deployment.accepted) and not await deployment.queue.depth():
                break
        # As workers do after each task: only a claim empties a line, of what an ended task left behind its
        # caller's cap, too.
        await deployment.claim(heir, 100)
        assert self.ended.keys() == deployment.accepted.keys(), "every accepted task comes to its end"
        for task in self.ended.values():
            if task.state is TaskState.COMPLETED:
                assert task.images
                assert not task.missing_images
        assert_no_leaked_keys(self.redis_url, self.redis_prefix)

    def alive(self, choice: int) -> Node:
        """One of the nodes that were neither killed nor stopped."""
        alive = [node for node in self.deployment.nodes if not node.gone]
        return alive[choice % len(alive)]


@pytest.mark.long
def test_every_promise_holds_in_every_life(redis_url: str, redis_prefix: str, tmp_path: Path) -> None:
    Life.redis_url, Life.redis_prefix, Life.directory = redis_url, redis_prefix, tmp_path
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=80,
            stateful_step_count=25,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            derandomize=False,  # other lives in every run, also where examples repeat: no run repeats these
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
