"""What the app tells Application Insights: events and metrics, their names and their properties.

docs/telemetry.md has all of them; a test holds the two together. Nothing here
waits, and without a connection string nothing here does anything.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from functools import partial

from sentiment.envelopes import Event, encode
from sentiment.ingestion import Limits, MetricKey, Sender
from sentiment.records import DocumentAnswer, Label, TextAnswer
from sentiment.settings import Ingestion
from sentiment.text import mask_identities

_OPERATION_ID_CHARACTERS = 32  # as W3C Trace Context has them
_SAMPLING_BITS = 32
# As the app makes the ids of corrections: fb-<digest of what the token says>-<label>-...
_MADE_FROM_TOKEN = re.compile(r"fb-([0-9a-f]{32})-")


def operation_id(token: str) -> str:
    """Return what ties a prediction to its correction: a digest of what the token says, unsigned.

    Nothing has to be stored for it: whoever has the token can compute it, and the
    id of a correction has it in it.
    """
    signed, _, _ = token.rpartition(".")
    return hashlib.sha256(signed.encode()).hexdigest()[:_OPERATION_ID_CHARACTERS]


def operation_id_of_correction(correction_id: str) -> str | None:
    """Return the operation id in the id of a correction, None if that was not made from a token."""
    found = _MADE_FROM_TOKEN.match(correction_id)
    return found[1] if found else None


class Telemetry:
    """Events and metrics of one process; safe to share between threads.

    `sampling` is the part of predictions that become events, from 0 to 1; which
    ones follows from their operation id. Without `text` no text ever leaves.
    """

    def __init__(
        self,
        ingestion: Ingestion | None,
        *,
        sampling: float = 1.0,
        text: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._sender = (
            None
            if ingestion is None
            else Sender(
                ingestion.endpoint,
                partial(encode, instrumentation_key=ingestion.instrumentation_key),
                limits,
            )
        )
        self._sampling = sampling
        self._text = text

    @property
    def on(self) -> bool:
        """Whether anything is sent at all."""
        return self._sender is not None

    @property
    def dropped(self) -> dict[str, int]:
        """How many items were never accepted, by reason."""
        return self._sender.dropped if self._sender is not None else {}

    def predictions(
        self, answers: Sequence[TextAnswer | DocumentAnswer], model_version: str, seconds: float
    ) -> None:
        """Tell of one inference: its answers, and how long the model took for them."""
        if self._sender is None:
            return
        now = time.time()
        events = []
        if self._sampling > 0.0:
            # One number in 2^32 decides: the same prediction is in or out, whoever asks.
            limit = self._sampling * (1 << _SAMPLING_BITS)
            for answer in answers:
                operation = operation_id(answer.prediction)
                if int(operation[: _SAMPLING_BITS // 4], 16) >= limit:
                    continue
                scores = answer.scores
                events.append(
                    Event(
                        "Prediction",
                        now,
                        operation,
                        {
                            "label": answer.label,
                            "model_version": model_version,
                            "truncated": "true" if answer.truncated else "false",
                        },
                        {"confidence": max(scores.negative, scores.neutral, scores.positive)},
                        100.0 * self._sampling,
                    )
                )
        self._sender.put(
            events,
            (
                (_metric("PredictLatencyMs", model_version), 1e3 * seconds),
                (_metric("PredictBatchSize", model_version), float(len(answers))),
            ),
        )

    def correction(
        self,
        *,
        predicted: Label,
        corrected: Label,
        model_version: str,
        source: str,
        text: str,
        confidence: float | None = None,
        operation_id: str | None = None,
    ) -> None:
        """Tell of a correction that was stored, or of a confirmation (`corrected` equals `predicted`).

        `confidence` is the probability the model gave `predicted`, None where that
        is unknown; `operation_id` that of the prediction's token, None where there
        was no token. `text` is sent only if the settings say so, without mentions
        and links.
        """
        if self._sender is None:
            return
        properties = {
            "predicted": str(predicted),
            "corrected": str(corrected),
            "model_version": model_version,
            "source": source,
        }
        if self._text:
            properties["text"] = mask_identities(text)
        measurements = {} if confidence is None else {"confidence": confidence}
        self._sender.put([Event("Correction", time.time(), operation_id, properties, measurements)])

    def poison_message(self, *, queue: str, reason: str, message_id: str | None = None) -> None:
        """Tell of a message that can never be processed; `reason` is words about it, never its content."""
        self._event("PoisonMessage", queue=queue, reason=reason, message_id=message_id)

    def model_loaded(self, *, version: str, sha256: str, replaced: str | None, seconds: float) -> None:
        """Tell that a version serves now, `seconds` after it was first asked for."""
        self._event("ModelLoaded", model_version=version, sha256=sha256, replaced=replaced)
        if self._sender is not None:
            self._sender.put((), [(_metric("ModelLoadSeconds", version), seconds)])

    def model_refused(self, *, version: str, sha256: str, reason: str, serving: str | None) -> None:
        """Tell that a champion does not serve, why, and which version goes on instead."""
        self._event("ModelRefused", model_version=version, sha256=sha256, reason=reason, serving=serving)

    def model_rolled_back(self, *, version: str, to: str, by: str, reason: str) -> None:
        """Tell that a version was taken out of service for good, for which other one, by whom and why."""
        self._event("ModelRolledBack", model_version=version, to=to, by=by, reason=reason)

    def retrain_tick(
        self,
        *,
        phase: str | None,
        cycle: int,
        decision: str,
        did: str,
        error: str,
        accepted_errors: int | None,
    ) -> None:
        """Tell of a tick of the retraining loop: where it stands, what was decided and done, what failed.

        `phase` is None where the state could not be read, and so is `accepted_errors`
        where they were not counted; empty texts are left out.
        """
        if self._sender is None:
            return
        texts = {"phase": phase, "decision": decision, "did": did, "error": error}
        properties = {"cycle": str(cycle)} | {key: value for key, value in texts.items() if value}
        measurements = {} if accepted_errors is None else {"accepted_errors": float(accepted_errors)}
        self._sender.put([Event("RetrainTick", time.time(), None, properties, measurements)])

    def close(self) -> None:
        """Send what waits and stop; returns within a second. Safe to call twice."""
        if self._sender is not None:
            self._sender.close()

    def _event(self, name: str, **properties: str | None) -> None:
        if self._sender is not None:
            given = {key: value for key, value in properties.items() if value is not None}
            self._sender.put([Event(name, time.time(), None, given, {})])


def _metric(name: str, model_version: str) -> MetricKey:
    return name, (("model_version", model_version),)
