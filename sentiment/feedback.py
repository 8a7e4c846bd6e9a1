"""Signed prediction tokens: nobody can correct a prediction that was never made.

A token carries what was predicted for which text, so nothing has to be stored
per prediction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from itsdangerous import URLSafeTimedSerializer

from sentiment.records import Prediction

# Keeps these signatures apart from any other use of the same keys.
_SALT = "sentiment.prediction"


class PredictionSigner:
    """Signs predictions with the newest of several keys; safe to share between threads."""

    def __init__(self, keys: Sequence[str]) -> None:
        # itsdangerous signs with the last key and verifies with any; ours are newest first.
        self._serializer = URLSafeTimedSerializer(
            list(reversed(keys)),
            salt=_SALT,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def sign(self, text: str, prediction: Prediction, model_version: str) -> str:
        """Return the token of `prediction`: digest of `text`, label, scores, model version and time."""
        scores = prediction.scores
        token = self._serializer.dumps(
            {
                "t": text_digest(text),
                "l": prediction.label,
                "s": [scores.negative, scores.neutral, scores.positive],
                "v": model_version,
            }
        )
        return token if isinstance(token, str) else token.decode("ascii")


def text_digest(text: str) -> str:
    """Return the SHA-256 of `text` in UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
