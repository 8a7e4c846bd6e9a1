"""The candidate in MLflow's model registry: a version with its lineage, and aliases that say what it is.

`candidate` is the version of the latest cycle, `champion` what was promoted,
`rejected` the latest that was not. The champion pointer in Blob Storage is what
counts for serving; the aliases tell people who look here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sentiment.errors import SentimentError
from sentiment.training.tracking import choose_experiment

logger = logging.getLogger(__name__)

#: The name of the registered model.
MODEL_NAME = "sentiment"

#: The tag that a version is known by: the SHA-256 of its `manifest.json`.
DIGEST = "manifest_sha256"

ALIAS = "alias"

Alias = Literal["candidate", "champion", "rejected"]

_ARTIFACTS = "model"

T = TypeVar("T")


class RegistrationError(SentimentError):
    """The MLflow registry refused, or did not answer; `name` is the registered model's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"the registered model {name}: {message}")
        self.name = name


def register(
    folder: Path, digest: str, tags: Mapping[str, str], *, tracking_uri: str, name: str = MODEL_NAME
) -> str:
    """Enter the model in `folder` as a new version, alias `candidate`, and return its number.

    `digest` is the SHA-256 of its manifest; entered again, it is the version that
    is there already, whose tags are set anew.

    Raises:
        RegistrationError: the registry refused or did not answer; repeat it.
    """

    def enter() -> str:
        client = _client(tracking_uri)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = _find(client, name, digest)
        if found is None:
            choose_experiment()
            # In a job of Azure ML this is the job's own run.
            with mlflow.start_run(run_name=f"register {tags.get('version', digest[:12])}") as run:
                mlflow.log_artifacts(str(folder), _ARTIFACTS)
                found = client.create_model_version(
                    name,
                    source=f"{run.info.artifact_uri}/{_ARTIFACTS}",
                    run_id=run.info.run_id,
                    tags={DIGEST: digest},
                )
        for key, value in tags.items():
            client.set_model_version_tag(name, found.version, key, value)
        _mark(client, name, found, "candidate")
        return str(found.version)

    return _translated(name, enter)


def mark(digest: str, alias: Alias, *, tracking_uri: str, name: str = MODEL_NAME) -> bool:
    """Give the version with this manifest digest an alias; False where it was never entered.

    Whoever promotes calls this with `champion`.

    Raises:
        RegistrationError: the registry refused or did not answer; repeat it.
    """

    def give() -> bool:
        client = _client(tracking_uri)
        found = _find(client, name, digest)
        if found is not None:
            _mark(client, name, found, alias)
        return found is not None

    return _translated(name, give)


def _client(tracking_uri: str) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(tracking_uri)
    return mlflow.MlflowClient(tracking_uri)


def _find(client: mlflow.MlflowClient, name: str, digest: str) -> ModelVersion | None:
    # Compared here: not every registry that speaks MLflow filters by tag.
    token: str | None = None
    found: list[ModelVersion] = []
    while token != "":
        page = client.search_model_versions(f"name='{name}'", page_token=token)
        found += [version for version in page if version.tags.get(DIGEST) == digest]
        token = page.token or ""
    return min(found, key=lambda version: int(version.version), default=None)


def _mark(client: mlflow.MlflowClient, name: str, version: ModelVersion, alias: Alias) -> None:
    client.set_model_version_tag(name, version.version, ALIAS, alias)
    try:
        client.set_registered_model_alias(name, alias, version.version)
    except MlflowException as error:
        # A registry without aliases has the tag.
        logger.warning("version %s of %s has no alias %s: %s", version.version, name, alias, error)


def _translated(name: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except MlflowException as error:
        raise RegistrationError(name, str(error)) from error
