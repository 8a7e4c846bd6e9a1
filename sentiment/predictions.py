"""The answer to ``POST predict``: the champion's predictions, signed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sentiment.api import Batch
from sentiment.feedback import PredictionSigner
from sentiment.records import BatchAnswer, DocumentAnswer, Prediction, TextAnswer, TextRequest
from sentiment.serving import Loaded, Serving
from sentiment.telemetry import Telemetry


def answer(
    request: TextRequest | Batch, serving: Serving, signer: PredictionSigner, telemetry: Telemetry
) -> TextAnswer | BatchAnswer:
    """Classify what was asked, all of it with the same model.

    Raises:
        ModelError, StoreUnavailable: there is no model to answer with.
    """
    return answer_with(serving.current(), request, signer, telemetry)


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


def _timed(loaded: Loaded, texts: Sequence[str]) -> tuple[list[Prediction], float]:
    started = time.perf_counter()
    predictions = loaded.classifier.predict(texts)
    return predictions, time.perf_counter() - started
