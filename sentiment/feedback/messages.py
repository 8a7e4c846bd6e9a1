"""Queue messages: made from feedback, read from whoever sent them; names and links stay out of both."""

from __future__ import annotations

import hashlib
import hmac
import html
import inspect
import json
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from sentiment.errors import InvalidInput, InvalidMessage
from sentiment.feedback.tokens import SignedPrediction
from sentiment.records import MAX_COMMENT_CHARACTERS, CorrectionMessage, FeedbackRequest, Label
from sentiment.text import MAX_TEXT_CHARACTERS, check_text, mask_identities, normalise

_PSEUDONYM = re.compile(r"u_[0-9a-f]{32}")
# fb-<digest of the prediction's token>-<label>-<proof that we minted it>
_MINTED = re.compile(r"(fb-[0-9a-f]{32})-(negative|neutral|positive)-([0-9a-f]{12})")


class Pseudonyms:
    """Turns users into pseudonyms, and corrections into ids, with one key that must not change."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def of(self, user: str) -> str:
        """Return the pseudonym of a user's name: HMAC-SHA256, cut to 128 bits."""
        return f"u_{self._digest('user', user)[:32]}"

    def known_as(self, user: str) -> str:
        """Return `user` if it is a pseudonym already, else its pseudonym."""
        return user if _PSEUDONYM.fullmatch(user) else self.of(user)

    def mint(self, prediction: SignedPrediction, label: Label) -> str:
        """Return the id of the correction of `prediction` to `label`: always the same one."""
        stem = f"fb-{prediction.digest[:32]}"
        return f"{stem}-{label}-{self._digest('id', f'{stem}-{label}')[:12]}"

    def minted(self, id: str) -> bool:
        """Return whether `mint` made this id, so that it was accepted once."""
        match = _MINTED.fullmatch(id)
        expected = self._digest("id", f"{match[1]}-{match[2]}")[:12] if match else ""
        return match is not None and hmac.compare_digest(expected, match[3])

    def _digest(self, purpose: str, value: str) -> str:
        said = value.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, purpose.encode() + b"\0" + said, hashlib.sha256).hexdigest()


def make_message(
    request: FeedbackRequest, prediction: SignedPrediction, pseudonyms: Pseudonyms, now: datetime
) -> CorrectionMessage:
    """Return the message that carries accepted feedback to the store."""
    return CorrectionMessage(
        schema=1,
        id=pseudonyms.mint(prediction, request.label),
        text=masked_text(request.text),
        predicted=prediction.label,
        corrected=request.label,
        model_version=prediction.model_version,
        source="api",
        user=pseudonyms.of(request.user) if request.user else None,
        created_at=now,
        confidence=prediction.confidence,
        comment=masked_comment(request.comment),
    )


def encode_message(message: CorrectionMessage) -> str:
    """Return the message as JSON text."""
    return msgspec.json.encode(message).decode()


def read_message(body: bytes) -> CorrectionMessage:
    """Return the message in the body of a queue message.

    Raises:
        InvalidMessage: it can never be stored; says why.
    """
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage("not-json", f"The body is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidMessage("not-an-object", "The body is JSON, but no object.")
    if raw.get("schema") != 1 or isinstance(raw.get("schema"), bool):
        raise InvalidMessage("unknown-schema", f"The schema is {raw.get('schema')!r:.40}: only 1 is known.")
    try:
        message = msgspec.convert(raw, CorrectionMessage)
        check_text(message.text, "/text")
    except msgspec.ValidationError as error:
        raise InvalidMessage("invalid-member", str(error)) from error
    except InvalidInput as error:
        raise InvalidMessage(error.code, error.detail) from error
    if not _storable(message.user, message.comment, message.model_version, message.source):
        raise InvalidMessage("not-unicode", "A member has half of a surrogate pair.")
    return message


def json_schema() -> bytes:
    """Return the JSON Schema of a queue message, from the record that validates it."""
    (reference,), components = msgspec.json.schema_components(
        [CorrectionMessage], ref_template="#/$defs/{name}"
    )
    name = reference["$ref"].rpartition("/")[2]
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **components.pop(name),
    }
    schema |= {
        "title": "Correction message",
        "description": inspect.cleandoc(CorrectionMessage.__doc__ or ""),
    }
    if components:
        schema["$defs"] = components
    return json.dumps(schema, indent=2).encode() + b"\n"


def masked_text(text: str) -> str:
    """Return a text as it may be kept: no names, no links, and `normalise` makes the same of it as before.

    Masking twice changes nothing, so every room that a text passes through may do it.
    """
    masked = mask_identities(text)
    if html.unescape(masked) != masked:
        # Entities are resolved once, or "&amp;lt;" would become "<" on its way.
        masked = masked.replace("&", "&amp;")
    # A short name becomes a longer placeholder.
    return masked[:MAX_TEXT_CHARACTERS]


def masked_comment(comment: str | None) -> str | None:
    """Return a comment as it may be kept; nothing stays nothing."""
    return masked_text(comment)[:MAX_COMMENT_CHARACTERS] if comment else None


def masked_body(body: str, pseudonyms: Pseudonyms) -> tuple[str, str | None]:
    """Return a refused body without names and links, and the pseudonym of its user if it has one.

    A body that names nobody comes back as it is, to the letter.
    """
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        return mask_identities(body), None
    masked = _masked(raw)
    user = raw.get("user")
    pseudonym = pseudonyms.known_as(user) if isinstance(user, str) and user else None
    if pseudonym is not None:
        masked["user"] = pseudonym
    elif user is not None:
        # Neither a name nor a pseudonym: it could be anything of a person's.
        masked["user"] = None
    return (body if masked == raw else json.dumps(masked)), pseudonym


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask_identities(value)
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    return [_masked(inner) for inner in value] if isinstance(value, list) else value


def text_key(text: str) -> str:
    """Return what texts share that are the same once normalised."""
    return hashlib.sha256(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def iso(time: datetime) -> str:
    """Return a time as the store keeps it: UTC, so that times sort as text."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _storable(*texts: str | None) -> bool:
    return all(not 0xD800 <= ord(character) <= 0xDFFF for text in texts if text for character in text)
