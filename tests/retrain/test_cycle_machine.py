"""The loop as a state machine: whatever happens in whatever order, no correction is lost or learned twice.

Real storage (Azurite), the real store, registry and state; ticks are killed after
any storage or network call, run two at once, and lose their leases; jobs finish
with every verdict, fail, vanish and are cancelled; the clock jumps; users are
erased, and outvoted. RETRAIN_EXAMPLES=100 looks longer than `make test` does.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from localhost.azurite import Azurite
from sentiment.errors import CycleConflict, PipelineUnavailable
from sentiment.retrain.records import CycleManifest, Phase, State
from tests.retrain.world import POLICY, World
from tests.wire import Exchange, ProcessDied

EXAMPLES = int(os.environ.get("RETRAIN_EXAMPLES", "5"))

USERS = ("anna", "bob", None)
EDGES: dict[Phase, tuple[Phase, ...]] = {
    "collecting": ("running",),
    "running": ("settled", "failed"),
    "settled": ("running",),
    "failed": ("running",),
}

#: At which call of a tick something goes wrong, from 1; a tick makes about thirty.
CALLS = st.integers(1, 45)
MOMENTS = st.sampled_from(
    [f"{when} {call}" for when in ("before", "after") for call in ("submit", "find", "cancel")]
)


class CycleMachine(RuleBasedStateMachine):
    """What can happen to a loop, and what must hold all the while."""

    azurite: Azurite

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.world = World(self.azurite, folder, self.stack, POLICY)
        #: Every correction there ever was, those of erased users, and in which cycle each was learned.
        self.given: set[str] = set()
        self.by_user: dict[str | None, set[str]] = {user: set() for user in USERS}
        self.erased: set[str] = set()
        self.learned: dict[str, int] = {}
        #: Texts that a majority agrees on, and what others say of them.
        self.agreed: list[str] = []
        self.outvoted: set[str] = set()
        #: Cycles whose version was made the champion.
        self.promoted: set[int] = set()
        self.manifests: dict[int, bytes] = {}
        self.vanished = 0
        self.seen = State()

    # --- what users do ------------------------------------------------------

    @rule(count=st.integers(1, 4), user=st.sampled_from(USERS), error=st.booleans())
    def correct(self, count: int, user: str | None, error: bool) -> None:
        ids = self.world.correct(count, user=user, corrected="negative" if error else "positive")
        # Made, by a clock that has gone back, before its user was erased.
        self.erased |= set(ids) - self.world.learned().keys()
        self.given |= set(ids)
        self.by_user[user] |= set(ids)

    @initialize()
    def enough(self) -> None:
        self.correct(4, "anna", True)
        self.correct(4, None, True)

    @rule(user=st.sampled_from(USERS[:2]))
    def erase(self, user: str) -> None:
        self.world.erase(user)
        self.erased |= self.by_user[user]
        self.by_user[user] = set()

    @rule(late=st.booleans())
    def agree(self, late: bool) -> None:
        """Two users say the same of a text, and somebody else (later) something else."""
        text = f"agreed on {len(self.agreed)}"
        for user in ("dora", "emil"):
            self.given |= set(self.world.correct(user=user, text=text))
        self.agreed.append(text)
        if not late:
            self.disagree(0)

    @precondition(lambda self: self.agreed)
    @rule(ago=st.integers(0, 9))
    def disagree(self, ago: int) -> None:
        text = self.agreed[-1 - ago % len(self.agreed)]
        ids = self.world.correct(user="mallory", text=text, predicted="negative", corrected="neutral")
        self.given |= set(ids)
        self.outvoted |= set(ids)

    # --- ticks --------------------------------------------------------------

    @rule()
    def tick(self) -> None:
        self.world.tick()

    @rule(call=CALLS, expires=st.booleans())
    def tick_that_dies_after_a_storage_call(self, call: int, expires: bool) -> None:
        self.world.wire.forget()
        self.world.wire.die_after = call
        with suppress(ProcessDied):
            self.world.tick()
        self.world.wire.forget()
        if expires:
            self.world.release_lease()

    @rule(call=CALLS)
    def tick_that_misses_an_answer(self, call: int) -> None:
        self.world.wire.forget()
        self.world.wire.lose = call
        self.world.tick()
        self.world.wire.forget()

    @rule(moment=MOMENTS, dies=st.booleans())
    def tick_with_trouble_at_azure_ml(self, moment: str, dies: bool) -> None:
        self.world.workspace.on_call = _trouble(moment, dies)
        with suppress(ProcessDied):
            self.world.tick()
        self.world.workspace.on_call = _nothing
        self.world.release_lease()

    @rule(call=CALLS)
    def tick_that_loses_its_lease_to_another(self, call: int) -> None:
        """It sleeps at some call for so long that another tick does all there is to do."""
        left = [call]

        def overtaken(exchange: Exchange) -> None:
            left[0] -= 1
            if not left[0]:
                self.world.release_lease()
                self.world.other.tick()

        self.world.wire.on_exchange = overtaken
        self.world.tick()
        self.world.wire.on_exchange = _nothing

    @rule(lose=st.none() | CALLS)
    def two_ticks_at_once(self, lose: int | None) -> None:
        def overtaken(exchange: Exchange) -> None:
            if len(self.world.wire.exchanges) == lose:
                self.world.release_lease()

        self.world.wire.forget()
        self.world.wire.on_exchange = overtaken
        together = threading.Barrier(2)
        failures: list[BaseException] = []

        def tick(act: Callable[[], Any]) -> None:
            together.wait()
            try:
                act()
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=tick, args=(loop.tick,)) for loop in (self.world.loop, self.world.other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.world.wire.on_exchange = _nothing
        assert not failures, failures

    @rule()
    def lease_runs_out(self) -> None:
        self.world.release_lease()

    @rule()
    def start_by_hand(self) -> None:
        with suppress(CycleConflict):
            self.world.loop.start("to see")

    @rule()
    def cancel_by_hand(self) -> None:
        with suppress(CycleConflict):
            self.world.loop.cancel("to see")

    # --- what goes on elsewhere ---------------------------------------------

    def _job(self) -> str | None:
        """Return the job of the running cycle where it is at work."""
        job = self.world.workspace.jobs.get(self.world.state().job)
        return job.name if job is not None and job.state == "running" else None

    @precondition(lambda self: self._job() is not None)
    @rule(verdict=st.sampled_from(["promoted", "published", "refused"]), says=st.booleans())
    def job_does_its_work(self, verdict: Any, says: bool) -> None:
        if verdict == "promoted":
            self.promoted.add(self.world.state().cycle)
        self.world.finish(verdict, says=says)

    @precondition(lambda self: self._job() is not None)
    @rule(state=st.sampled_from(["completed", "failed", "canceled"]))
    def job_ends_with_nothing(self, state: Any) -> None:
        self.world.workspace.end(str(self._job()), state)

    @precondition(lambda self: self.world.state().job in self.world.workspace.jobs)
    @rule()
    def job_vanishes(self) -> None:
        self.world.workspace.vanish(self.world.state().job)
        self.vanished += 1

    @rule()
    def deployment_is_approved(self) -> None:
        for outcome in self.world.deployments:
            version = str(outcome.version)
            if not self.world.by_hand.get_blob_client(f"refused/{version}.json").exists():
                self.world.promote(version, "approved")
                self.promoted.add(outcome.cycle)
        self.world.deployments.clear()

    @rule(hours=st.sampled_from([0.25, 1.0, 5.0, 30.0, 200.0, -5.0, -2000.0]))
    def clock_jumps(self, hours: float) -> None:
        self.world.wait(hours=hours)

    # --- what must hold -----------------------------------------------------

    @invariant()
    def one_job_a_cycle(self) -> None:
        workspace = self.world.workspace
        cycles = [inputs["cycle"] for inputs in workspace.inputs.values()]
        assert len(cycles) == len(set(cycles)), f"two jobs of one cycle: {sorted(workspace.inputs)}"
        assert not workspace.together, f"jobs that ran when another was submitted: {workspace.together}"
        assert workspace.created.total() <= len(workspace.inputs) + self.vanished, workspace.created

    @invariant()
    def cycles_have_one_manifest_and_what_is_learned_is_in_it(self) -> None:
        self.manifests_never_change()
        self.nothing_is_lost_or_learned_twice()

    def manifests_never_change(self) -> None:
        now = self.world.manifests()
        for cycle, before in self.manifests.items():
            assert now[cycle] == before, f"the manifest of cycle {cycle} was changed"
        self.manifests = now
        for inputs in self.world.workspace.inputs.values():
            assert int(inputs["cycle"]) in now, "a job without a manifest"

    @invariant()
    def states_follow_one_another(self) -> None:
        before, after = self.seen, self.world.state()
        self.seen = after
        assert after.cycle >= before.cycle
        if after.cycle == before.cycle:
            assert after.phase == before.phase or after.phase in EDGES[before.phase], (before, after)
            assert after.job == before.job
        for time in (after.started_at, after.ended_at):
            assert not time or datetime.fromisoformat(time).tzinfo

    def nothing_is_lost_or_learned_twice(self) -> None:
        rows = {row["RowKey"]: row for row in self.world.rows_by_hand.list_entities()}
        waiting = {key[2:] for key in rows if key[:2] in ("p|", "r|")}
        heard = {key[2:] for key in rows if key.startswith("l|")}
        assert {key[2:] for key in rows if key.startswith("c|")} == self.given
        for id in self.given:
            cycle = rows[f"c|{id}"].get("cycle")
            if id in self.learned:
                assert cycle == self.learned[id], f"{id}: learned in {self.learned[id]}, now in {cycle}"
            if cycle is not None:
                self.learned[id] = cycle
                assert cycle in self.promoted, f"{id} was learned in cycle {cycle}, which was not promoted"
                assert id in _ids(self.manifests[cycle]), f"{id} was not in cycle {cycle}"
            assert (id in waiting) == (cycle is None and id not in self.erased), f"{id} {cycle}"
            assert (id in heard) == (cycle is not None and id not in self.erased), f"{id} {cycle}"

    @invariant()
    def who_was_outvoted_stays_so(self) -> None:
        for cycle, manifest in self.manifests.items():
            assert not self.outvoted & _ids(manifest), f"cycle {cycle} learns what was outvoted"

    def teardown(self) -> None:
        """Once nothing goes wrong any more, everything finds its end."""
        try:
            if self.given:
                self._come_to_an_end()
        finally:
            self.stack.close()

    def _come_to_an_end(self) -> None:
        world = self.world
        world.release_lease()
        for _ in range(6):
            world.tick()
            if self._job() is not None:
                self.job_does_its_work("promoted", True)
            self.deployment_is_approved()
            if world.state().phase != "running":
                break
        assert world.state().phase != "running", world.state()
        self.manifests_never_change()
        self.nothing_is_lost_or_learned_twice()
        for cycle in self.promoted:
            for id in _ids(self.manifests[cycle]) - self.erased:
                assert self.learned.get(id) == cycle, f"{id} of cycle {cycle}: {self.learned.get(id)}"
        # Another cycle can start, and learns the rest.
        world.correct(1)
        self.given.add(f"id{world.numbers}")
        world.loop.start("the rest")
        self.job_does_its_work("promoted", True)
        world.tick()
        assert world.state().phase == "settled", world.ticks()[-1]
        self.manifests_never_change()
        self.who_was_outvoted_stays_so()
        assert world.pending() == self.outvoted


def _ids(manifest: bytes) -> set[str]:
    read = msgspec.json.decode(manifest, type=CycleManifest)
    return {*read.errors, *read.confirmations, *read.duplicates}


def _trouble(moment: str, dies: bool) -> Callable[[str], None]:
    def trouble(now: str) -> None:
        if now == moment:
            if dies:
                raise ProcessDied
            raise PipelineUnavailable(moment, "timeout")

    return trouble


def _nothing(_: object) -> None: ...


def test_whatever_happens_every_correction_is_pending_or_learned_once(azurite: Azurite) -> None:
    """The machine above, with a few dozen steps an example."""
    machine = type("Machine", (CycleMachine,), {"azurite": azurite})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # To shrink an example takes minutes, and the one that was found is readable.
            phases=[HypothesisPhase.explicit, HypothesisPhase.reuse, HypothesisPhase.generate],
            print_blob=True,
        ),
    )
