"""Versions that must never be promoted (again), and taking one out of service for good.

Every way to promote asks here first. What is undone goes in this order, and can
be repeated after a crash at any line:

    refused/<version>.json   says which promotion is undone, and that it is not finished
    champion pointer         back to the champion before
    corrections              what the version's cycle had learned from waits again
    refused/<version>.json   says that it is finished
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from sentiment.blobs import Blobs
from sentiment.errors import CorrectionNotFound, VersionRefused
from sentiment.feedback.messages import iso
from sentiment.records import Champion
from sentiment.registry import ChampionPointer
from sentiment.retrain.cycles import read_manifest
from sentiment.retrain.state import check_times, decode, encode, read_state
from sentiment.services import Services

logger = logging.getLogger(__name__)

_FOLDER = "refused/"
_CYCLE = re.compile(r"cycle ([1-9][0-9]{0,8}):")


class Refusal(Struct, frozen=True, kw_only=True):
    """`refused/<version>.json`: a version that is never promoted (again), and why.

    Where it was champion, `number` is that of the promotion which is undone.
    """

    version: str
    reason: str
    at: str
    by: str = ""
    number: int | None = None
    to: str | None = None
    #: False as long as the roll-back, or the giving back of corrections, is not finished.
    given_back: bool = True


class Undone(Struct, frozen=True, kw_only=True):
    """What has become of a version that was taken out of service."""

    version: str
    #: What serves now.
    champion: str
    #: The corrections that wait again.
    given_back: int
    #: What still keeps it from being finished; the next tick goes on.
    waits: str = ""


def cycle_of(reason: str) -> int | None:
    """Return the cycle that a promotion came from: its reason begins with `cycle <n>:`."""
    found = _CYCLE.match(reason)
    return int(found[1]) if found else None


def reason_of(cycle: int, reason: str) -> str:
    """Return the reason of a promotion that came from a cycle, as `cycle_of` reads it."""
    return f"cycle {cycle}: {reason}"


# --- asking -----------------------------------------------------------------


def refusal_of(blobs: Blobs, version: str) -> Refusal | None:
    """Return why a version must never be promoted, None where nothing is against it.

    Raises:
        DamagedRecord: there is a refusal that cannot be read.
    """
    name = _name(version)
    content = blobs.read(name)
    if content is None:
        return None
    refusal = decode(content.data, Refusal, name)
    check_times(name, refusal.at)
    return refusal


def check_allowed(blobs: Blobs, version: str) -> None:
    """Raise `VersionRefused` for a version that must never be promoted."""
    refusal = refusal_of(blobs, version)
    if refusal is not None:
        raise VersionRefused(version, refusal.reason)


def refused_versions(blobs: Blobs) -> frozenset[str]:
    """Return all versions that must never be promoted."""
    return frozenset(_version(name) for name in blobs.names(_FOLDER))


# --- refusing ---------------------------------------------------------------


def refuse(blobs: Blobs, refusal: Refusal) -> Refusal:
    """Refuse a version for good; return the refusal that stands.

    An earlier one stands, unless this one undoes a promotion that it does not know of.
    """
    name = _name(refusal.version)
    blobs.create_container()
    while not blobs.create(name, encode(refusal)):
        content = blobs.read(name)
        if content is None:
            continue
        there = decode(content.data, Refusal, name)
        if refusal.number is None or there.number == refusal.number:
            return there
        if blobs.replace(name, encode(refusal), content.etag):
            break
    return refusal


def undo(
    services: Services,
    found: ChampionPointer,
    *,
    to: str | None = None,
    by: str,
    reason: str,
    now: datetime,
) -> Undone:
    """Take the champion `found` out of service for good; what it learned from waits again.

    Back to the champion before, or to `to`; never to a refused version.

    Raises:
        ModelNotFound: there is no champion to go back to; nothing has changed.
        VersionRefused: `to` was refused itself; nothing has changed.
        ModelConflict: the champion changed just now; `finish` goes on.
    """
    blobs, version = services.retrain_blobs, found.champion.version
    if to is not None:
        check_allowed(blobs, to)
    target = services.registry.former_champion(to=to, avoid={version, *refused_versions(blobs)})
    refusal = Refusal(
        version=version,
        reason=reason,
        at=iso(now),
        by=by,
        number=found.champion.number,
        to=target.version if to is not None else None,
        given_back=False,
    )
    return _finish(services, refuse(blobs, refusal))


def finish(services: Services) -> Iterator[Undone]:
    """Go on with whatever was being undone when a process died."""
    blobs = services.retrain_blobs
    for name in blobs.names(_FOLDER):
        refusal = refusal_of(blobs, _version(name))
        if refusal is not None and not refusal.given_back:
            yield _finish(services, refusal)


def _finish(services: Services, refusal: Refusal) -> Undone:
    registry, blobs = services.registry, services.retrain_blobs
    found = registry.champion()
    champion = found.champion
    # Another one serves where this is repeated, or where it was promoted just now.
    if champion.number == refusal.number:
        champion = registry.rollback(
            to=refusal.to,
            avoid=refused_versions(blobs),
            by=refusal.by,
            reason=refusal.reason,
            expected=found.etag,
        )
        services.telemetry.model_rolled_back(
            version=refusal.version, to=champion.version, by=refusal.by, reason=refusal.reason
        )
        logger.warning("%s serves again instead of %s: %s", champion.version, refusal.version, refusal.reason)
    undone = Undone(version=refusal.version, champion=champion.version, given_back=0)
    cycle = _undone_cycle(registry.history(), refusal)
    if cycle is not None:
        state = read_state(blobs)
        if state.phase == "running" and state.cycle == cycle:
            # Its corrections are still being noted as learned; those would stay so.
            return replace(undone, waits=f"cycle {cycle} is not settled yet")
        undone = replace(undone, given_back=_give_back(services, cycle))
    name = _name(refusal.version)
    content = blobs.read(name)
    if content is not None:
        blobs.replace(name, encode(replace(refusal, given_back=True)), content.etag)
    return undone


def _undone_cycle(history: list[Champion], refusal: Refusal) -> int | None:
    """Return the cycle whose corrections wait again, None where nothing is to be given back.

    That is where the version did not come from a cycle, or where another one had
    been trained on and promoted over it before it could be undone.
    """
    records = {record.number: record for record in history}
    undone = records.get(refusal.number or 0)
    after = min((number for number in records if number > (refusal.number or 0)), default=0)
    if undone is None or not after or records[after].restores is None:
        return None
    promotion = records.get(undone.restores) if undone.restores is not None else undone
    return cycle_of(promotion.reason) if promotion is not None else None


def _give_back(services: Services, cycle: int) -> int:
    """Have everything that a cycle learned from wait again; return how much that was."""
    manifest, store = read_manifest(services.retrain_blobs, cycle), services.corrections
    count = 0
    for id in (*manifest.errors, *manifest.duplicates, *manifest.confirmations):
        # Erased meanwhile, it stays so.
        with suppress(CorrectionNotFound):
            count += store.unlearn(id, cycle)
    return count


def _name(version: str) -> str:
    return f"{_FOLDER}{version}.json"


def _version(name: str) -> str:
    return name.removeprefix(_FOLDER).removesuffix(".json")
