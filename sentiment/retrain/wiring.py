"""The retraining loop of this app, connected: the only place that knows all its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from sentiment.records import Label
from sentiment.retrain.deployment import deploy
from sentiment.retrain.tick import Parts, Retraining
from sentiment.retrain.watch import watch
from sentiment.services import Services


def retraining(services: Services) -> Retraining:
    """Return the retraining loop of an app.

    Raises:
        SettingsError: the settings lead to no storage account, or there is no key for pseudonyms.
    """
    return Retraining(
        Parts(
            blobs=services.retrain_blobs,
            store=services.corrections,
            registry=services.registry,
            telemetry=services.telemetry,
            policy=services.settings.retrain,
            user_cap=services.settings.feedback_user_cap,
            jobs=services.pipelines,
            deploy=lambda outcome: deploy(outcome, services.settings.deployment),
            watch=lambda: watch(services, datetime.now(UTC)),
            predictions=partial(_predictions, services),
        )
    )


def _predictions(services: Services, since: str) -> Mapping[Label, int]:
    """Return how many predictions of each class were made since a time, by whichever version."""
    began = datetime.fromisoformat(since) if since else datetime.fromtimestamp(0, UTC)
    made: Counter[Label] = Counter()
    for of_version in services.prediction_counts.counts(began, datetime.now(UTC)).values():
        made.update(of_version)
    return made
