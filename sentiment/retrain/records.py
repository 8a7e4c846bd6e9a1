"""What the container `retrain` holds, as frozen structs.

state.json                    State: changed only with If-Match, under a lease
cycles/<n>/manifest.json      CycleManifest: written before the state says running; never changed
cycles/<n>/outcome.json       Outcome: written once, by the pipeline's last step
cycles/<n>/gate.json, gate.md the gate's report
ticks/<date>/<time>-<random>.json   TickRecord: one for each tick
refused/<version>.json        a version that must never be promoted (again)
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sentiment.records import Label

#: `collecting -> running -> settled | failed`, and from there to `running` again.
Phase = Literal["collecting", "running", "settled", "failed"]


class CycleManifest(Struct, frozen=True, kw_only=True):
    """What one cycle learns from, and which model it goes on from."""

    schema: Literal[1] = 1
    cycle: int
    created_at: str
    reason: str
    #: Version and manifest digest of the model that the candidate is fine-tuned from.
    champion: str
    champion_sha256: str
    #: Ids of the accepted corrections of this cycle, sorted.
    errors: tuple[str, ...]
    confirmations: tuple[str, ...]
    #: Predictions made per predicted class since the start of the last cycle that has kept what it
    #: learned: those that these corrections are about. Empty: unknown.
    predictions: dict[Label, int]
    #: predicted -> corrected -> how many accepted errors.
    corrected: dict[str, dict[str, int]]
    #: Accepted errors that say what another one in `errors` says of the same text: they
    #: are learned with it, and not trained on.
    duplicates: tuple[str, ...] = ()


class Outcome(Struct, frozen=True, kw_only=True):
    """How the pipeline of a cycle ended.

    `published`: the gate said promote and the version is in the registry, but the
    pointer is moved by a deployment.
    """

    schema: Literal[1] = 1
    cycle: int
    verdict: Literal["promoted", "published", "refused"]
    version: str | None
    sha256: str | None
    champion: str
    reasons: tuple[str, ...]
    at: str


class PastCycle(Struct, frozen=True, kw_only=True):
    """A cycle that is over, as the state remembers it."""

    cycle: int
    phase: Literal["settled", "failed"]
    #: Why it was started, and why it ended as it did.
    reason: str
    why: str
    version: str | None
    started_at: str
    ended_at: str


class State(Struct, frozen=True, kw_only=True):
    """`state.json`: the latest cycle and where it stands.

    While collecting, which is before the first cycle, `cycle` is 0 and no other
    member means anything.
    """

    schema: Literal[1] = 1
    phase: Phase = "collecting"
    cycle: int = 0
    #: The name of its Azure ML job.
    job: str = ""
    #: Why it was started, and when; ISO 8601, UTC.
    reason: str = ""
    started_at: str = ""
    #: The number of the champion's promotion at that time: a higher one is news.
    champion_number: int = 0
    #: Whether the job has been seen since it was last submitted, and how often one that had been was gone.
    seen: bool = False
    vanished: int = 0
    #: Why the job is to be stopped; empty: it is not.
    stop: str = ""
    #: When its version was found to wait for a deployment, and whether that was asked for.
    published_at: str | None = None
    deployed: bool = False
    #: Why and when it ended, with which version, and whether the gate had refused it.
    why: str = ""
    ended_at: str | None = None
    version: str | None = None
    refused: bool = False
    #: Failures and refusals in a row: what the wait before the next start doubles with.
    failures: int = 0
    #: Those before this cycle: a promotion that is rolled back goes on from them.
    failures_before: int = 0
    #: The latest cycles that are over, the last one first.
    past: tuple[PastCycle, ...] = ()


class TickCounts(Struct, frozen=True, kw_only=True):
    """What no model has learned from, as a tick has counted it."""

    #: Accepted errors, and when the oldest was made.
    errors: int
    oldest: str | None
    confirmations: int
    duplicates: int
    #: What waits for another voice, or is over the cap of its user.
    held: int
    #: Accepted errors that were not in the last cycle.
    new: int


class TickRecord(Struct, frozen=True, kw_only=True):
    """What one tick found, decided and did."""

    schema: Literal[1] = 1
    at: str
    #: Who had it run: `timer`, `command`.
    by: str
    #: The state before and after, and the cycle after it.
    before: Phase | None
    after: Phase | None
    cycle: int
    counts: TickCounts | None
    #: Why a cycle was started or not; empty where nothing was counted.
    decision: str
    did: tuple[str, ...]
    #: What the watch over the last promotion said.
    watch: str | None
    errors: tuple[str, ...]
