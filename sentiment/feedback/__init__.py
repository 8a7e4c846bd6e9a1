"""Feedback on predictions: signed tokens, messages, and the stores that corrections live in."""

from sentiment.feedback.tokens import PredictionSigner, text_digest

__all__ = ["PredictionSigner", "text_digest"]
