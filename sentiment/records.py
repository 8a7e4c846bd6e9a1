"""The words of the domain as frozen structs.

What validates a request is what the OpenAPI document is generated from: the
same classes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Label = Literal["negative", "neutral", "positive"]

#: In the order of the model's outputs.
LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class Scores(Struct, frozen=True):
    """The probabilities of the three classes; they sum to one."""

    negative: Probability
    neutral: Probability
    positive: Probability


class Prediction(Struct, frozen=True):
    """What a classifier says of one text."""

    label: Label
    scores: Scores
    truncated: Annotated[
        bool, Meta(description="The text was longer than the model reads; its end was ignored.")
    ]


# --- model versions ---------------------------------------------------------


class FileEntry(Struct, frozen=True):
    """Size in bytes and SHA-256 (hexadecimal) of one file of a model folder."""

    size: int
    sha256: str


class DataFingerprint(Struct, frozen=True):
    """Which data a model has seen: name, SHA-256 of the file's bytes, rows per class."""

    name: str
    sha256: str
    rows: dict[str, int]


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """`manifest.json`: what a model folder holds and how it came to be."""

    schema: Literal[1] = 1
    version: str
    created_at: str
    recipe: str
    settings: dict[str, Any]
    data: dict[str, DataFingerprint]
    parent: str | None
    files: dict[str, FileEntry]


class Champion(Struct, frozen=True, kw_only=True):
    """`champion.json`: the version that serves, and how it came to serve."""

    version: str
    sha256: Annotated[str, Meta(description="SHA-256 of the version's manifest.json.")]
    previous: str | None
    promoted_at: Annotated[str, Meta(description="ISO 8601, UTC.")]
    by: str
    reason: str
    number: Annotated[int, Meta(ge=1, description="Counts promotions and roll-backs from 1.")] = 1
    restores: Annotated[
        int | None, Meta(description="For a roll-back: the number of the promotion it returns to.")
    ] = None


class ModelVersion(Struct, frozen=True, kw_only=True):
    """One published version, as a list shows it."""

    version: str
    sha256: str
    created_at: str
    recipe: str
    parent: str | None
    macro_recall: float | None
    champion: bool


# --- corrections ------------------------------------------------------------

#: As the store keys its rows; no character that Table Storage forbids in a key.
CorrectionId = Annotated[
    str,
    Meta(
        # The end is no line break either, which `$` alone lets through in Python.
        pattern="^[A-Za-z0-9_-]{1,100}$(?!\\n)",
        description="Minted once by whoever accepts the correction; the same id is stored once.",
    ),
]
UserName = Annotated[
    str, Meta(min_length=1, max_length=200, description="Whoever corrects; only a keyed hash of it is kept.")
]
MAX_COMMENT_CHARACTERS = 500
Comment = Annotated[str, Meta(max_length=MAX_COMMENT_CHARACTERS)]


class CorrectionMessage(Struct, frozen=True, kw_only=True):
    """A message on the queue `corrections`: what somebody says the label of a text is.

    Members that are not listed here are ignored.
    """

    schema: Literal[1]
    id: CorrectionId
    text: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=5000,
            description="The tweet; mentions and links are replaced.",
        ),
    ]
    predicted: Annotated[Label, Meta(description="What the model said.")]
    corrected: Annotated[
        Label, Meta(description="What it should have said; equal to `predicted`, it confirms the prediction.")
    ]
    model_version: Annotated[str, Meta(min_length=1, max_length=100)]
    source: Annotated[str, Meta(min_length=1, max_length=50, description="Where from: `api`, `file`.")]
    created_at: Annotated[datetime, Meta(tz=True, description="ISO 8601 with an offset.")]
    user: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                description="A pseudonym; a name is replaced by its keyed hash before it is stored.",
            ),
        ]
        | None
    ) = None
    confidence: (
        Annotated[float, Meta(ge=0.0, le=1.0, description="The model's probability of `predicted`.")] | None
    ) = None
    comment: Comment | None = None


State = Literal["pending", "held", "accepted", "learned", "erased"]


class Correction(Struct, frozen=True, kw_only=True):
    """A correction as stored: text masked, user a pseudonym; both gone, with the comment, once erased."""

    id: str
    text: str
    predicted: Label
    corrected: Label
    model_version: str
    source: str
    user: str | None
    created_at: str
    stored_at: str
    confidence: float | None = None
    comment: str | None = None
    cycle: int | None = None
    erased_at: str | None = None

    @property
    def is_error(self) -> bool:
        """Whether it says that the model was wrong, rather than right."""
        return self.predicted != self.corrected


class Voice(Struct, frozen=True, kw_only=True):
    """What judging a correction takes: no text, only whether two texts are the same."""

    id: str
    text_key: str
    predicted: Label
    corrected: Label
    user: str | None
    created_at: str
    confidence: float | None = None
    #: Whether a model has learned from it: it still has its vote on its text, and never counts again.
    learned: bool = False


class Sample(Struct, frozen=True, kw_only=True):
    """A prediction that was kept: text masked as a correction's is, and no user."""

    text: str
    text_key: str
    predicted: Label
    confidence: float
    model_version: str
    at: str


# --- HTTP -------------------------------------------------------------------

Text = Annotated[str, Meta(description="The tweet.", examples=["I love how this turned out!"])]
DocumentId = Annotated[str, Meta(min_length=1, max_length=100, description="Unique within the request.")]


class TextRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One text to classify."""

    text: Text


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    """One text of a batch."""

    id: DocumentId
    text: Text


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Several texts to classify."""

    documents: Annotated[list[Document], Meta(min_length=1, max_length=100)]


class TextAnswer(Struct, frozen=True, kw_only=True):
    """The prediction for one text."""

    label: Label
    scores: Scores
    truncated: bool
    prediction: Annotated[
        str, Meta(description="Signed token: send it back with the text to correct the label.")
    ]
    model_version: str


class DocumentAnswer(Struct, frozen=True, kw_only=True):
    """The prediction for one document of a batch."""

    id: str
    label: Label
    scores: Scores
    truncated: bool
    prediction: Annotated[
        str, Meta(description="Signed token: send it back with the text to correct the label.")
    ]


class WordWeight(Struct, frozen=True, kw_only=True):
    """A word of the text, and how far it moved the answer."""

    text: Annotated[str, Meta(description="As written; in texts of many words, a few neighbouring words.")]
    start: Annotated[int, Meta(ge=0, description="Where it begins, in Unicode code points.")]
    end: Annotated[int, Meta(ge=0, description="Where it ends: the first code point after it.")]
    weight: Annotated[
        float,
        Meta(
            ge=-1.0,
            le=1.0,
            description="The probability that the predicted label loses without it; "
            "below zero, the word speaks against the label.",
        ),
    ]


class ExplanationAnswer(Struct, frozen=True, kw_only=True):
    """Why a text is given its label: its words in their order, each with its weight."""

    label: Label
    words: list[WordWeight]
    truncated: bool
    model_version: str


class Fault(Struct, frozen=True):
    """One thing that is wrong: where (JSON Pointer), a stable code, and words."""

    pointer: str
    code: str
    detail: str


class DocumentFault(Struct, frozen=True):
    """Why one document of a batch has no prediction."""

    id: str
    error: Fault


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """The predictions for a batch: every document is in `documents` or in `errors`."""

    documents: list[DocumentAnswer]
    errors: list[DocumentFault]
    model_version: str


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Fault] | UnsetType = UNSET
    offset: Annotated[int, Meta(description="Byte of the body where reading failed.")] | UnsetType = UNSET


class ModelAnswer(Struct, frozen=True, kw_only=True):
    """The model that answers now."""

    version: str
    sha256: str
    metrics: dict[str, Any]
    promoted_at: str
    by: str
    reason: str
    previous: str | None
    loaded_at: str


class StatusAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Alive, or ready with which model."""

    status: Literal["alive", "ready"]
    model_version: str | UnsetType = UNSET


class FeedbackRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody says the label of a predicted text is."""

    prediction: Annotated[str, Meta(description="The token that came with the prediction.")]
    text: Text
    label: Annotated[Label, Meta(description="The right label; the predicted one confirms the prediction.")]
    user: UserName | None = None
    comment: Comment | None = None


class FeedbackAnswer(Struct, frozen=True, kw_only=True):
    """A correction that was accepted and is on its way to the store."""

    id: str
    kind: Literal["correction", "confirmation"]
    state: State
    location: Annotated[str, Meta(description="Where its state can be read.")]


class CorrectionAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a correction."""

    id: str
    state: State
    why: Annotated[str, Meta(description="For what is held: what it waits for.")] | UnsetType = UNSET
    kind: Literal["correction", "confirmation"] | UnsetType = UNSET
    predicted: Label | UnsetType = UNSET
    corrected: Label | UnsetType = UNSET
    model_version: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    cycle: Annotated[int, Meta(description="The cycle that learned from it.")] | UnsetType = UNSET


class Erasure(Struct, frozen=True, kw_only=True):
    """What was erased of one person, and what cannot be."""

    corrections: Annotated[int, Meta(description="Stored corrections emptied; their ids remain.")]
    queued: Annotated[int, Meta(description="Messages removed from the queue.")]
    poison: Annotated[int, Meta(description="Messages removed from the poison queue.")]
    quarantined: Annotated[int, Meta(description="Rows removed from the quarantine.")]
    samples: Annotated[int, Meta(description="Sampled predictions of the same texts that were removed.")]
    cycles: Annotated[list[int], Meta(description="Retraining cycles whose models have learned from them.")]
    remaining: Annotated[list[str], Meta(description="What cannot be erased, in words.")]
