"""Signed prediction tokens: nobody can correct a prediction that was never made.

A token carries what was predicted for which text, so nothing has to be stored
per prediction.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from itsdangerous import BadData, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode, base64_encode, bytes_to_int
from msgspec import Meta, Struct

from sentiment.errors import InvalidToken
from sentiment.records import LABELS, Label, Prediction

# Keeps these signatures apart from any other use of the same keys.
_SALT = "sentiment.prediction"

#: More than any token of ours has: about 330 characters with the longest model version.
MAX_TOKEN_CHARACTERS = 1024

# Two instances' clocks may differ.
_CLOCK_SKEW = timedelta(minutes=5)
_LARGEST_PAYLOAD = 4096
_NONCE_BYTES = 9


class SignedPrediction(Struct, frozen=True):
    """What a genuine token says."""

    #: Digest of the token without its signature: the same for the same prediction, and for no other.
    digest: str
    label: Label
    #: The probability of `label`.
    confidence: float
    model_version: str
    issued_at: datetime


class _Payload(Struct, frozen=True):
    text: str = msgspec.field(name="t")
    label: Label = msgspec.field(name="l")
    scores: Annotated[list[float], Meta(min_length=3, max_length=3)] = msgspec.field(name="s")
    version: str = msgspec.field(name="v")


# Stands in for a payload that cannot be read, so that the checks go on.
_UNREADABLE = _Payload("", "neutral", [0.0, 0.0, 0.0], "")


class PredictionSigner:
    """Signs predictions with the newest of several keys; safe to share between threads."""

    def __init__(self, keys: Sequence[str]) -> None:
        # itsdangerous signs with the last key and verifies with any; ours are newest first.
        self._serializer = URLSafeTimedSerializer(
            list(reversed(keys)),
            salt=_SALT,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        signer = self._serializer.make_signer(_SALT)
        self._keys = [signer.derive_key(key) for key in keys]

    def sign(self, text: str, prediction: Prediction, model_version: str) -> str:
        """Return the token of `prediction`: digest of `text`, label, scores, model version and time.

        No two tokens are the same, even of one text in one second.
        """
        scores = prediction.scores
        token = self._serializer.dumps(
            {
                "t": text_digest(text),
                "l": prediction.label,
                "s": [scores.negative, scores.neutral, scores.positive],
                "v": model_version,
                # Two people who ask the same in the same second can both correct it.
                "n": secrets.token_urlsafe(_NONCE_BYTES),
            }
        )
        return token if isinstance(token, str) else token.decode("ascii")

    def verify(self, token: str, text: str, *, now: datetime, max_age: timedelta) -> SignedPrediction:
        """Return what was predicted for `text`, if `token` proves that it was.

        Every check is made whatever the others found, with every key, and only then
        is the first failure reported: how long it takes does not tell which it was.

        Raises:
            InvalidToken: its `check` is "size", "form", "signature", "age" or "text".
        """
        raw = token[:MAX_TOKEN_CHARACTERS].encode("utf-8", "replace")
        signed, _, signature = raw.rpartition(b".")
        genuine = False
        for key in self._keys:
            expected = base64_encode(hmac.digest(key, signed, hashlib.sha256))
            genuine |= hmac.compare_digest(expected, signature)
        payload, issued_at = _read(signed)
        age = now - issued_at
        too_old = not -_CLOCK_SKEW <= age <= max_age
        same_text = hmac.compare_digest(payload.text.encode(), text_digest(text).encode())
        digest = hashlib.sha256(signed).hexdigest()
        hours = max_age / timedelta(hours=1)
        for failed, check, message in (
            (
                len(token) > MAX_TOKEN_CHARACTERS,
                "size",
                f"The token has {len(token):,} characters, ours have at most {MAX_TOKEN_CHARACTERS:,}.",
            ),
            (
                payload is _UNREADABLE,
                "form",
                "This is no prediction token: send back 'prediction' as it came with the answer.",
            ),
            (
                not genuine,
                "signature",
                "The token was forged or altered: its signature does not match what it says.",
            ),
            (too_old, "age", f"The token is too old: a prediction can be corrected for {hours:g} hours."),
            (
                not same_text,
                "text",
                "The token belongs to another text: send the text as it was classified.",
            ),
        ):
            if failed:
                raise InvalidToken(check, message)
        return SignedPrediction(
            digest=digest,
            label=payload.label,
            confidence=min(1.0, max(0.0, payload.scores[LABELS.index(payload.label)])),
            model_version=payload.version,
            issued_at=issued_at,
        )


def text_digest(text: str) -> str:
    """Return the SHA-256 of `text` in UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _read(signed: bytes) -> tuple[_Payload, datetime]:
    """Return what the signed part says; `_UNREADABLE` if it says nothing."""
    encoded, _, time = signed.rpartition(b".")
    try:
        packed = encoded.startswith(b".")
        data = base64_decode(encoded.lstrip(b".") if packed else encoded)
        if packed:
            # Bounded: nobody has vouched for this yet.
            data = zlib.decompressobj().decompress(data, _LARGEST_PAYLOAD)
        payload = msgspec.json.decode(data, type=_Payload)
        payload.text.encode()
        return payload, datetime.fromtimestamp(bytes_to_int(base64_decode(time)), UTC)
    except (ValueError, OverflowError, OSError, zlib.error, msgspec.MsgspecError, BadData):
        return _UNREADABLE, datetime.fromtimestamp(0, UTC)
