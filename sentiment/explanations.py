"""The answer to ``POST explain``: which words moved a prediction, by occlusion.

A word's weight is how much probability the predicted label loses when the word
is left out and nothing else changes (Zeiler and Fergus, 2014, "Visualizing and
Understanding Convolutional Networks", section 4.2, there with parts of images).
It needs nothing but the model that serves, asked once more with the variants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from sentiment.records import LABELS, ExplanationAnswer, Prediction, TextRequest, WordWeight
from sentiment.serving import ClassifierLike, Serving
from sentiment.text import normalise

#: How many words the model may read for one explanation, over all variants: what one
#: core does within 100 ms with the seed model (benchmarks/explaining.py).
MOST_WORDS_READ = 600
#: However long a text is, it is told apart into so many parts.
FEWEST_PARTS = 6
#: Words past this one are not weighed: every word is a token or more, and no model of
#: ours reads more tokens.
MOST_WORDS = 128

_WORD = re.compile(r"\S+")
_NOTHING_KNOWN = 1 / len(LABELS)

Span = tuple[int, int]


def answer(request: TextRequest, serving: Serving) -> ExplanationAnswer:
    """Explain what the champion predicts for a text.

    Raises:
        ModelError, StoreUnavailable: there is no model to ask.
    """
    loaded = serving.current()
    prediction, words = explain(request.text, loaded.classifier)
    return ExplanationAnswer(
        label=prediction.label,
        words=words,
        truncated=prediction.truncated,
        model_version=loaded.champion.version,
    )


def explain(text: str, classifier: ClassifierLike) -> tuple[Prediction, list[WordWeight]]:
    """Return what `classifier` says of `text`, and the weight of each of its words, in their order."""
    parts = spans(text)
    variants = [text[:start] + text[end:] for start, end in parts]
    # Without its only word a text is blank: the model is not asked what it says of nothing.
    left = [number for number, variant in enumerate(variants) if normalise(variant)]
    (prediction,) = classifier.predict([text])
    without = [_NOTHING_KNOWN] * len(parts)
    if left:
        answers = classifier.predict([variants[number] for number in left])
        for number, changed in zip(left, answers, strict=True):
            without[number] = getattr(changed.scores, prediction.label)
    score: float = getattr(prediction.scores, prediction.label)
    return prediction, [
        WordWeight(text=text[start:end], start=start, end=end, weight=round(score - probability, 6))
        for (start, end), probability in zip(parts, without, strict=True)
    ]


def spans(text: str) -> Sequence[Span]:
    """Return start and end of each word of `text`, or of runs of words where it has many."""
    words = [match.span() for match in _WORD.finditer(text)][:MOST_WORDS]
    most = max(FEWEST_PARTS, MOST_WORDS_READ // max(1, len(words)))
    if len(words) <= most:
        return words
    edges = [round(number * len(words) / most) for number in range(most + 1)]
    return [(words[first][0], words[last - 1][1]) for first, last in pairwise(edges)]
