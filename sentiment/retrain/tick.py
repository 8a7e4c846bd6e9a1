"""One tick of the retraining loop: look, decide, take the next step, leave a record.

A cycle goes through storage in this order: its manifest, the state that names its
job, the job. Whoever dies in between leaves something that the next tick goes on
from, because everything is asked for before it is done:

    manifest written, state not    the manifest keeps its number, and nothing else
    state running, no job          the job is submitted (again), under the same name
    job over                       what it left says how: outcome.json, or the champion
    some corrections learned       learning is repeated; each is learned once
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sentiment.blobs import Blobs
from sentiment.errors import (
    CorrectionNotFound,
    CycleConflict,
    DamagedRecord,
    PipelineError,
    PipelineRefused,
    SentimentError,
    SettingsError,
)
from sentiment.feedback.messages import iso
from sentiment.feedback.store import CorrectionStore
from sentiment.pipelines import Job
from sentiment.records import Champion, Label
from sentiment.registry import ModelRegistry
from sentiment.retrain.cycles import read_manifest, read_outcome, said_since, write_manifest
from sentiment.retrain.decision import Decision, decide, on_this_clock, rolled_back
from sentiment.retrain.pending import Pending, sort_out
from sentiment.retrain.records import CycleManifest, Outcome, PastCycle, State, TickCounts, TickRecord
from sentiment.retrain.refusals import Refusal, refusal_of, refuse
from sentiment.retrain.state import HeldState, hold
from sentiment.retrain.ticks import Notes, keep
from sentiment.settings import RetrainPolicy
from sentiment.telemetry import Telemetry

logger = logging.getLogger(__name__)

#: How often a job that had been seen may be gone, and is submitted again, before its cycle fails.
RESUBMISSIONS = 2

_PAST_CYCLES = 20
_RENEW_EVERY = 100
_NO_WORKSPACE = "AZUREML_WORKSPACE is not set: there is no workspace to retrain in"


class Jobs(Protocol):
    """What carries pipeline jobs out: `pipelines.Pipelines`."""

    def submit(self, name: str, inputs: Mapping[str, str]) -> Job:
        """Start a job; one that is there already under this name is left as it is."""

    def find(self, name: str) -> Job | None:
        """Return a job, None where there is none of this name."""

    def cancel(self, name: str) -> None:
        """Ask a job to stop; one that is over or not there is no error."""


class Parts(Struct, frozen=True, kw_only=True):
    """What a tick works with."""

    blobs: Blobs
    store: CorrectionStore
    registry: ModelRegistry
    telemetry: Telemetry
    policy: RetrainPolicy
    user_cap: float
    #: None: there is no workspace to retrain in, and ticks only count.
    jobs: Jobs | None
    #: Has a published version promoted from elsewhere; may be called again after a crash.
    deploy: Callable[[Outcome], None]
    #: Looks after the last promotion; what it returns is kept with the tick.
    watch: Callable[[], str | None]
    #: Predictions made since a time (ISO 8601; empty: since ever), by predicted class.
    predictions: Callable[[str], Mapping[Label, int]]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


class Retraining:
    """The retraining loop of one app; any number of processes may tick at once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._blobs = parts.blobs

    def tick(self, by: str = "timer") -> TickRecord:
        """Take the next step, whatever it is, and return the record of it.

        What fails for a cause that this product knows is in the record's `errors`,
        and tried again by the next tick.
        """
        notes = Notes(by)
        try:
            self._step(notes)
        except SentimentError as error:
            notes.errors.append(str(error))
        try:
            notes.watch = self._parts.watch()
        except SentimentError as error:
            notes.errors.append(str(error))
        return self._kept(notes)

    def start(self, reason: str, by: str = "command") -> TickRecord:
        """Start a cycle now, without the threshold and without waiting; return the record of it.

        Raises:
            CycleConflict: one is running, there is nothing to learn from, or
                another tick is at work.
            SettingsError: there is no workspace to retrain in.
        """
        notes = Notes(by)
        with hold(self._blobs) as held:
            self._noticed(held, notes)
            if held.state.phase == "running":
                raise CycleConflict(
                    f"cycle {held.state.cycle} is running (job {held.state.job}): wait for it, or cancel it"
                )
            pending = self.pending()
            notes.counts = pending.counts()
            if not pending.errors and not pending.confirmations:
                raise CycleConflict("there is nothing to learn from: no correction is accepted and unlearned")
            notes.decision = reason
            try:
                self._start(held, pending, reason, notes)
            except PipelineError as error:
                # The state says running: the next tick submits its job.
                notes.errors.append(str(error))
            self._moved(held, notes)
        return self._kept(notes)

    def cancel(self, reason: str, by: str = "command") -> TickRecord:
        """Stop the running cycle and give its corrections back; return the record of it.

        Where the job does not stop at once, or Azure ML does not answer (`errors`),
        the next ticks see to it.

        Raises:
            CycleConflict: no cycle is running, or another tick is at work.
        """
        notes = Notes(by)
        with hold(self._blobs) as held:
            self._noticed(held, notes)
            if held.state.phase != "running":
                raise CycleConflict(f"no cycle is running: the state is {held.state.phase}")
            held.move(replace(held.state, stop=reason))
            try:
                self._follow(held, notes)
            except SentimentError as error:
                notes.errors.append(str(error))
            self._moved(held, notes)
        return self._kept(notes)

    def pending(self) -> Pending:
        """Return what a cycle that starts now would learn from."""
        return sort_out(self._parts.store.voices(), user_cap=self._parts.user_cap)

    def outlook(self, state: State, pending: Pending) -> tuple[TickCounts, Decision]:
        """Return what a tick in this state counts and decides now."""
        known: set[str] = set()
        state = self._as_it_turned_out(state)
        if state.refused:
            # Where it is gone, everything is new.
            with suppress(DamagedRecord):
                known = set(read_manifest(self._blobs, state.cycle).errors)
        counts = pending.counts(known)
        return counts, decide(state, counts, self._parts.policy, self._parts.clock())

    # --- the steps ----------------------------------------------------------

    def _step(self, notes: Notes) -> None:
        with hold(self._blobs) as held:
            self._noticed(held, notes)
            try:
                pending = self.pending()
                notes.counts, decision = self.outlook(held.state, pending)
                notes.decision = decision.reason
                if held.state.phase == "running":
                    self._follow(held, notes)
                elif decision.start and self._parts.jobs is None:
                    notes.decision += f"; not started, because {_NO_WORKSPACE}"
                elif decision.start:
                    self._start(held, pending, decision.reason, notes)
            finally:
                self._moved(held, notes)

    def _noticed(self, held: HeldState, notes: Notes) -> None:
        """Note what the state is, and put right what a clock that has gone back since makes of its times."""
        notes.before = held.state.phase
        self._moved(held, notes)
        there = on_this_clock(held.state, self._parts.clock())
        if there != held.state:
            held.move(there)
            notes.did.append("the clock has gone back behind times in the state: they count from now")

    def _moved(self, held: HeldState, notes: Notes) -> None:
        notes.after, notes.cycle = held.state.phase, held.state.cycle

    def _start(self, held: HeldState, pending: Pending, reason: str, notes: Notes) -> None:
        """Write a cycle's manifest, then the state that names its job, then submit the job."""
        jobs = self._jobs()
        state, now = self._as_it_turned_out(held.state), self._parts.clock()
        champion = self._parts.registry.champion().champion
        manifest = CycleManifest(
            cycle=state.cycle + 1,
            created_at=iso(now),
            reason=reason,
            champion=champion.version,
            champion_sha256=champion.sha256,
            errors=pending.errors,
            confirmations=pending.confirmations,
            duplicates=pending.duplicates,
            predictions=self._predictions(state, pending, now, notes),
            corrected=pending.corrected,
        )
        cycle, job = write_manifest(self._blobs, manifest)
        held.move(
            State(
                phase="running",
                cycle=cycle,
                job=job,
                reason=reason,
                started_at=iso(now),
                champion_number=champion.number,
                failures=state.failures,
                past=state.past,
            )
        )
        self._moved(held, notes)
        notes.did.append(
            f"started cycle {cycle} from {champion.version} with {len(pending.errors)} errors "
            f"and {len(pending.confirmations)} confirmations"
        )
        self._submit(held, jobs, notes)

    def _predictions(self, state: State, pending: Pending, now: datetime, notes: Notes) -> dict[Label, int]:
        """Return how many predictions the corrections of a cycle that starts now are about."""
        ids = {*pending.errors, *pending.confirmations, *pending.duplicates}
        try:
            since = said_since(self._blobs, state.cycle, ids)
        except DamagedRecord as error:
            # Unknown, then.
            notes.errors.append(str(error))
            return {}
        return dict(self._parts.predictions(min(since, iso(now))))

    def _follow(self, held: HeldState, notes: Notes) -> None:
        """Look how the running cycle is doing, and end it if it is over."""
        if held.state.published_at is None:
            ended = self._job_ended(held, notes)
            if ended is None:
                return
        else:
            ended = f"{held.state.job} is over"
        self._conclude(held, ended, notes)

    def _job_ended(self, held: HeldState, notes: Notes) -> str | None:
        """Return in words how the job ended, None while it runs or has just been submitted (again)."""
        jobs, state = self._jobs(), held.state
        job = jobs.find(state.job)
        if job is None:
            return self._missing(held, jobs, notes)
        if job.state != "running":
            return f"the job {job.name} is {job.state}: {job.said}"
        if not state.seen:
            held.move(replace(held.state, seen=True))
        if not state.stop and self._waited(state.started_at, self._parts.policy.job_timeout_hours):
            hours = self._parts.policy.job_timeout_hours
            held.move(replace(held.state, stop=f"the job {job.name} ran for more than {hours:g} hours"))
        if not held.state.stop:
            notes.did.append(f"the job {job.name} is running: {job.said}")
            return None
        jobs.cancel(job.name)
        # What it became meanwhile counts: it may have been quicker than the order to stop.
        job = jobs.find(job.name)
        if job is None or job.state != "running":
            notes.did.append(f"cancelled the job {state.job}: {held.state.stop}")
            return (
                f"the job {state.job} is {job.state}: {job.said}" if job else f"the job {state.job} is gone"
            )
        notes.did.append(f"told the job {job.name} to stop, and it has not yet: {held.state.stop}")
        return None

    def _missing(self, held: HeldState, jobs: Jobs, notes: Notes) -> str | None:
        state = held.state
        gone = f"there is no job {state.job} any more" if state.seen else f"there is no job {state.job}"
        # It may have done its work before somebody removed it.
        if state.stop or self._left_something(state):
            return gone
        if self._waited(state.started_at, self._parts.policy.job_timeout_hours):
            return f"{gone}, {self._parts.policy.job_timeout_hours:g} hours after its cycle was started"
        if state.seen:
            if state.vanished >= RESUBMISSIONS:
                return f"{gone}: it has vanished {state.vanished + 1} times"
            notes.did.append(gone)
            held.move(replace(state, seen=False, vanished=state.vanished + 1))
        return self._submit(held, jobs, notes)

    def _submit(self, held: HeldState, jobs: Jobs, notes: Notes) -> str | None:
        """Submit the job; return in words why there never will be one, where Azure ML refuses it."""
        name = held.state.job
        try:
            job = jobs.submit(name, {"cycle": str(held.state.cycle)})
        except PipelineRefused as error:
            self._fail(held, f"the job {name} was not taken: {error}", notes)
            notes.errors.append(str(error))
            return None
        notes.did.append(f"submitted the job {name}: {job.said}")
        held.move(replace(held.state, seen=True))
        return None

    def _conclude(self, held: HeldState, ended: str, notes: Notes) -> None:
        """Settle or fail a cycle whose job is over, by what the job has left."""
        state = held.state
        try:
            outcome = read_outcome(self._blobs, state.cycle)
        except DamagedRecord as error:
            outcome, ended = None, f"{ended}; {error}"
            notes.errors.append(str(error))
        promoted = self._promotion(state, outcome.version if outcome else None)
        if promoted is not None:
            self._settle(held, promoted.version, promoted.reason, notes)
        elif outcome is None:
            left = f"{ended}; it has left no outcome.json"
            self._fail(held, f"{state.stop} ({ended})" if state.stop else left, notes)
        elif outcome.verdict == "promoted":
            self._settle(held, outcome.version, "; ".join(outcome.reasons), notes)
        elif outcome.verdict == "refused":
            why = f"the gate refused {outcome.version or 'the candidate'}: {'; '.join(outcome.reasons)}"
            self._fail(held, why, notes, version=outcome.version, refused=True)
        else:
            self._await_deployment(held, outcome, notes)

    def _await_deployment(self, held: HeldState, outcome: Outcome, notes: Notes) -> None:
        """Have a published version promoted, and wait until it is, for as long as it may take."""
        state, hours = held.state, self._parts.policy.deploy_timeout_hours
        if state.published_at is None:
            held.move(replace(state, published_at=iso(self._parts.clock()), version=outcome.version))
            state = held.state
        too_long = self._waited(str(state.published_at), hours)
        if state.stop or too_long:
            why = state.stop or f"{outcome.version} was published and not promoted within {hours:g} hours"
            # First nobody may promote it any more, then it is seen that nobody has.
            now = iso(self._parts.clock())
            refuse(self._blobs, Refusal(version=str(outcome.version), reason=why, at=now, by="tick"))
            promoted = self._promotion(state, outcome.version)
            if promoted is None:
                self._fail(held, why, notes, version=outcome.version)
            else:
                self._settle(held, promoted.version, promoted.reason, notes)
        elif not state.deployed:
            self._parts.deploy(outcome)
            held.move(replace(held.state, deployed=True))
            notes.did.append(f"had the deployment of {outcome.version} started")
        else:
            notes.did.append(f"{outcome.version} waits for its deployment since {state.published_at}")

    def _settle(self, held: HeldState, version: str | None, why: str, notes: Notes) -> None:
        """Note that a promoted model has learned from a cycle's corrections, then that it is settled."""
        learned, erased = self._learn(held)
        settled = replace(
            held.state, phase="settled", failures=0, failures_before=held.state.failures, refused=False
        )
        self._end(held, settled, version, why)
        notes.did.append(f"settled cycle {held.state.cycle}: {version} was promoted: {why}")
        gone = f", {erased} were erased meanwhile" if erased else ""
        notes.did.append(f"{learned} corrections are learned{gone}")

    def _fail(
        self, held: HeldState, why: str, notes: Notes, *, version: str | None = None, refused: bool = False
    ) -> None:
        """Give the corrections of a cycle back: they were never taken, only listed."""
        failed = replace(held.state, phase="failed", failures=held.state.failures + 1, refused=refused)
        self._end(held, failed, version, why)
        notes.did.append(f"cycle {held.state.cycle} failed: {why}")

    def _end(self, held: HeldState, ended: State, version: str | None, why: str) -> None:
        at = iso(self._parts.clock())
        over = PastCycle(
            cycle=ended.cycle,
            phase="settled" if ended.phase == "settled" else "failed",
            reason=ended.reason,
            why=why,
            version=version,
            started_at=ended.started_at,
            ended_at=at,
        )
        past = (over, *ended.past[: _PAST_CYCLES - 1])
        held.move(replace(ended, version=version, why=why, ended_at=at, past=past))

    def _learn(self, held: HeldState) -> tuple[int, int]:
        """Have every correction of a cycle learned, once; return how many are, and how many were erased."""
        cycle, store = held.state.cycle, self._parts.store
        manifest = read_manifest(self._blobs, cycle)
        learned = erased = 0
        for number, id in enumerate((*manifest.errors, *manifest.duplicates, *manifest.confirmations), 1):
            if number % _RENEW_EVERY == 0:
                held.renew()
            try:
                if store.learn(id, cycle):
                    learned += 1
                    continue
                correction = store.get(id)
            except CorrectionNotFound:
                erased += 1
                continue
            if correction.erased_at is not None:
                erased += 1
            elif correction.cycle is None:
                raise CycleConflict(f"correction {id} keeps changing: it is learned by the next tick")
            else:
                learned += 1
        return learned, erased

    # --- looking ------------------------------------------------------------

    def _jobs(self) -> Jobs:
        if self._parts.jobs is None:
            raise SettingsError("AZUREML_WORKSPACE", _NO_WORKSPACE.partition(" ")[2])
        return self._parts.jobs

    def _left_something(self, state: State) -> bool:
        try:
            left = read_outcome(self._blobs, state.cycle) is not None
        except DamagedRecord:
            left = True
        return left or self._promotion(state, None) is not None

    def _promotion(self, state: State, version: str | None) -> Champion | None:
        """Return the record of the promotion that came out of a cycle, None where there was none.

        The pipeline's last step moves the champion pointer before it says so: it may
        have died in between. And the version may have been rolled back since.
        """
        registry = self._parts.registry
        if registry.champion().champion.number <= state.champion_number:
            return None
        for record in registry.history():
            ours = record.reason.startswith(f"cycle {state.cycle}:") or record.version == version
            if ours and record.number > state.champion_number and record.restores is None:
                return record
        return None

    def _waited(self, since: str, hours: float) -> bool:
        return self._parts.clock() - datetime.fromisoformat(since) > timedelta(hours=hours)

    def _as_it_turned_out(self, state: State) -> State:
        """Return the state, where its version was promoted and rolled back since, as that of a failure."""
        if state.phase != "settled" or state.version is None:
            return state
        refusal = refusal_of(self._blobs, state.version)
        return state if refusal is None else rolled_back(state, refusal.at or str(state.ended_at))

    def _kept(self, notes: Notes) -> TickRecord:
        """Keep the record of a tick, and tell of it."""
        now = self._parts.clock()
        record = notes.record(now)
        try:
            keep(self._blobs, record, now)
        except SentimentError as error:
            record = replace(record, errors=(*record.errors, f"no record is kept: {error}"))
        for line in record.did:
            logger.info("%s", line)
        for line in record.errors:
            logger.error("%s", line)
        self._parts.telemetry.retrain_tick(
            phase=record.after,
            cycle=record.cycle,
            decision=record.decision,
            did="; ".join(record.did),
            error="; ".join(record.errors),
            accepted_errors=record.counts.errors if record.counts else None,
        )
        return record
