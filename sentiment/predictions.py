"""The answer to ``POST predict``: the champion's predictions, signed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sentiment.api import Batch
from sentiment.feedback import PredictionSigner
from sentiment.records import BatchAnswer, DocumentAnswer, Prediction, TextAnswer, TextRequest
from sentiment.samples import Samples
from sentiment.serving import Loaded, Serving
from sentiment.telemetry import Telemetry
from sentiment.usage import PredictionCounts


def answer(
    request: TextRequest | Batch,
    serving: Serving,
    signer: PredictionSigner,
    telemetry: Telemetry,
    counts: PredictionCounts | None = None,
    samples: Samples | None = None,
) -> TextAnswer | BatchAnswer:
    """Classify what was asked, all of it with the same model; count it, and sample it where that is on.

    Raises:
        ModelError, StoreUnavailable: there is no model to answer with.
    """
    answered = answer_with(serving.current(), request, signer, telemetry)
    _keep(request, answered, counts, samples)
    return answered


def answer_with(
    loaded: Loaded, request: TextRequest | Batch, signer: PredictionSigner, telemetry: Telemetry
) -> TextAnswer | BatchAnswer:
    """Classify what was asked with `loaded`."""
    version = loaded.champion.version
    if isinstance(request, TextRequest):
        (prediction,), seconds = _timed(loaded, [request.text])
        answer = TextAnswer(
            label=prediction.label,
            scores=prediction.scores,
            truncated=prediction.truncated,
            prediction=signer.sign(request.text, prediction, version),
            model_version=version,
        )
        telemetry.predictions([answer], version, seconds)
        return answer
    predictions, seconds = _timed(loaded, [document.text for document in request.documents])
    documents = [
        DocumentAnswer(
            id=document.id,
            label=prediction.label,
            scores=prediction.scores,
            truncated=prediction.truncated,
            prediction=signer.sign(document.text, prediction, version),
        )
        for document, prediction in zip(request.documents, predictions, strict=True)
    ]
    if documents:
        telemetry.predictions(documents, version, seconds)
    return BatchAnswer(documents=documents, errors=request.faults, model_version=version)


def _keep(
    request: TextRequest | Batch,
    answered: TextAnswer | BatchAnswer,
    counts: PredictionCounts | None,
    samples: Samples | None,
) -> None:
    """Leave behind what the retraining asks for; nothing of it waits for storage."""
    version = answered.model_version
    answers: Sequence[TextAnswer | DocumentAnswer] = (
        [answered] if isinstance(answered, TextAnswer) else answered.documents
    )
    if counts is not None:
        for each in answers:
            counts.add(version, each.label)
    if samples is not None and samples.on:
        texts = (
            [request.text] if isinstance(request, TextRequest) else [one.text for one in request.documents]
        )
        for text, each in zip(texts, answers, strict=True):
            samples.offer(text, each.label, getattr(each.scores, each.label), version)


def _timed(loaded: Loaded, texts: Sequence[str]) -> tuple[list[Prediction], float]:
    started = time.perf_counter()
    predictions = loaded.classifier.predict(texts)
    return predictions, time.perf_counter() - started
