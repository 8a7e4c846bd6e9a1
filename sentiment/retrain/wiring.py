"""The retraining loop of this app, connected: the only place that knows all its parts."""

from __future__ import annotations

from sentiment.errors import PipelineRefused
from sentiment.retrain.records import Outcome
from sentiment.retrain.tick import Parts, Retraining
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
            deploy=_no_deployment,
            watch=lambda: None,
            predictions=lambda since: {},
        )
    )


def _no_deployment(outcome: Outcome) -> None:
    raise PipelineRefused(
        f"deploy {outcome.version}",
        "this app has no deployment to ask: promote the version with 'python -m sentiment models promote'",
    )
