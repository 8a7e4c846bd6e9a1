"""What the doors do with corrections: accept, store, judge, erase."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from msgspec.structs import replace

from sentiment.acceptance import Judgement, judge
from sentiment.errors import CorrectionNotFound, InvalidMessage
from sentiment.feedback.messages import encode_message, make_message, masked_body, read_message, text_key
from sentiment.feedback.queue import MessageQueue, Queued
from sentiment.records import (
    Correction,
    CorrectionAnswer,
    Erasure,
    FeedbackAnswer,
    FeedbackRequest,
    State,
)
from sentiment.services import CORRECTIONS_QUEUE, Services
from sentiment.telemetry import operation_id_of_correction

logger = logging.getLogger(__name__)

_LOCATION = "/api/corrections/"


class Judged(NamedTuple):
    """A stored correction and what became of it."""

    correction: Correction
    state: State
    why: str
    #: Whether a cycle may learn from it as an error.
    counts: bool


def accept(request: FeedbackRequest, services: Services) -> tuple[FeedbackAnswer, str]:
    """Verify feedback; return what its sender is told, and the message for the queue.

    Raises:
        InvalidToken: the token fails a check.
        SettingsError: there are no keys.
    """
    now = _now()
    max_age = timedelta(hours=services.settings.feedback_max_age_hours)
    prediction = services.signer.verify(request.prediction, request.text, now=now, max_age=max_age)
    message = make_message(request, prediction, services.pseudonyms, now)
    answer = FeedbackAnswer(
        id=message.id,
        kind=_kind(message.predicted == message.corrected),
        state="pending",
        location=_LOCATION + message.id,
    )
    return answer, encode_message(message)


def store(body: bytes, queued_at: datetime | None, services: Services) -> None:
    """Store the correction in the body of a queue message, once; quarantine what can never be stored.

    Raises:
        StoreUnavailable: for now; the platform delivers the message again.
    """
    now = _now()
    try:
        message = read_message(body)
    except InvalidMessage as refusal:
        kept_as = services.quarantine.add(body, refusal, now=now)
        logger.error("a message was refused (%s) and quarantined as %s", refusal.reason, kept_as)
        services.telemetry.poison_message(queue=CORRECTIONS_QUEUE, reason=refusal.reason, message_id=kept_as)
        return
    added = services.corrections.add(message, now=now, queued_at=_aware(queued_at))
    logger.info("correction %s %s", message.id, "stored" if added else "was there already, or stays out")
    # A message delivered again is told of once.
    if added:
        services.telemetry.correction(
            predicted=message.predicted,
            corrected=message.corrected,
            model_version=message.model_version,
            source=message.source,
            text=message.text,
            confidence=message.confidence,
            operation_id=operation_id_of_correction(message.id),
        )


def state(id: str, services: Services) -> CorrectionAnswer:
    """Return what became of a correction.

    Raises:
        CorrectionNotFound: no correction has this id, here or on its way.
    """
    try:
        correction = services.corrections.get(id)
    except CorrectionNotFound:
        # It was accepted here, and is on the queue (or was erased before it was stored).
        if services.pseudonyms.minted(id):
            return CorrectionAnswer(id=id, state="pending")
        raise
    if correction.erased_at is not None:
        return CorrectionAnswer(id=id, state="erased")
    settled = correction.cycle is not None
    judged = _judged(correction, {} if settled else judgements(services))
    answer = CorrectionAnswer(
        id=id,
        state=judged.state,
        kind=_kind(not correction.is_error),
        predicted=correction.predicted,
        corrected=correction.corrected,
        model_version=correction.model_version,
        created_at=correction.created_at,
    )
    if judged.why:
        answer = replace(answer, why=judged.why)
    if correction.cycle is not None:
        answer = replace(answer, cycle=correction.cycle)
    return answer


def judgements(services: Services) -> dict[str, Judgement]:
    """Return the judgement on everything that no model has learned from, by id."""
    return judge(services.corrections.voices(), user_cap=services.settings.feedback_user_cap)


def judged(services: Services) -> Iterator[Judged]:
    """Yield every stored correction with what became of it."""
    by_id = judgements(services)
    for correction in services.corrections.all():
        yield _judged(correction, by_id)


def erase(user: str, services: Services) -> Erasure:
    """Erase what one person, by name or by pseudonym, has said; safe to repeat.

    Raises:
        StoreUnavailable: some may be erased and some not; repeat it.
    """
    now = _now()
    pseudonyms = services.pseudonyms
    # Somebody may be called what looks like a pseudonym.
    names = {pseudonyms.of(user), pseudonyms.known_as(user)}
    # Samples first, and by the texts: once these are emptied, nobody can tell which they were.
    texts = [text_key(each.text) for name in names for each in services.corrections.of_user(name)]
    samples = [services.samples.remove(texts)]
    erased = [
        correction for name in sorted(names) for correction in services.corrections.erase_user(name, now=now)
    ]
    cycles = sorted({correction.cycle for correction in erased if correction.cycle is not None})
    remaining = [
        "messages of this person that are being processed right now: they stay out of the store",
        "corrections that were sent without a user: nobody can tell whose they are",
    ]
    if cycles:
        remaining.append(
            "models trained in these cycles keep the influence of these texts until a retrain without them"
        )
    return Erasure(
        corrections=len(erased),
        queued=_erase_queued(services.queue, names, services, now, samples),
        poison=_erase_queued(services.poison_queue, names, services, now, samples),
        quarantined=sum(services.quarantine.erase_user(name) for name in names),
        samples=sum(samples),
        cycles=cycles,
        remaining=remaining,
    )


def apply_retention(services: Services) -> int:
    """Erase what is older than FEEDBACK_RETENTION_DAYS; return how many rows.

    Raises:
        StoreUnavailable: some may be erased and some not; the next day goes on.
    """
    days = services.settings.feedback_retention_days
    if days == 0:
        return 0
    now = _now()
    limit = now - timedelta(days=days)
    count = (
        services.corrections.erase_before(limit, now=now)
        + services.quarantine.erase_before(limit)
        + services.samples.erase_before(limit)
        + services.prediction_counts.erase_before(limit)
    )
    logger.info(
        "retention: %d corrections, refused messages, samples and counts older than %d days erased",
        count,
        days,
    )
    return count


def _erase_queued(
    queue: MessageQueue, names: set[str], services: Services, now: datetime, samples: list[int]
) -> int:
    """Remove a person's messages, return how many; append to `samples` how many of those went with them."""
    store = services.corrections

    def decide(message: Queued) -> Literal["keep", "delete"]:
        _, user = masked_body(message.body.decode("utf-8", "backslashreplace"), services.pseudonyms)
        if user not in names:
            return "keep"
        # Leaves a tombstone, since its user is erased: whoever asks for it learns that it is gone.
        with suppress(InvalidMessage):
            correction = read_message(message.body)
            samples.append(services.samples.remove([text_key(correction.text)]))
            store.add(correction, now=now)
        return "delete"

    return queue.sweep(decide)


def _judged(correction: Correction, by_id: dict[str, Judgement]) -> Judged:
    if correction.erased_at is not None:
        return Judged(correction, "erased", "", False)
    if correction.cycle is not None:
        return Judged(correction, "learned", "", False)
    # Stored while the others were being judged.
    judgement = by_id.get(correction.id)
    if judgement is None:
        return Judged(correction, "pending", "", False)
    return Judged(correction, judgement.state, judgement.why, judgement.counts)


def _kind(confirms: bool) -> Literal["correction", "confirmation"]:
    return "confirmation" if confirms else "correction"


def _now() -> datetime:
    return datetime.now(UTC)


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
