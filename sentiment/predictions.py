"""The answer to ``POST predict``: the champion's predictions, signed."""

from __future__ import annotations

from sentiment.api import Batch
from sentiment.feedback import PredictionSigner
from sentiment.records import BatchAnswer, DocumentAnswer, TextAnswer, TextRequest
from sentiment.serving import Serving


def answer(
    request: TextRequest | Batch, serving: Serving, signer: PredictionSigner
) -> TextAnswer | BatchAnswer:
    """Classify what was asked, all of it with the same model.

    Raises:
        ModelError, StoreUnavailable: there is no model to answer with.
    """
    loaded = serving.current()
    version = loaded.champion.version
    if isinstance(request, TextRequest):
        (prediction,) = loaded.classifier.predict([request.text])
        return TextAnswer(
            label=prediction.label,
            scores=prediction.scores,
            truncated=prediction.truncated,
            prediction=signer.sign(request.text, prediction, version),
            model_version=version,
        )
    predictions = loaded.classifier.predict([document.text for document in request.documents])
    return BatchAnswer(
        documents=[
            DocumentAnswer(
                id=document.id,
                label=prediction.label,
                scores=prediction.scores,
                truncated=prediction.truncated,
                prediction=signer.sign(document.text, prediction, version),
            )
            for document, prediction in zip(request.documents, predictions, strict=True)
        ],
        errors=request.faults,
        model_version=version,
    )
