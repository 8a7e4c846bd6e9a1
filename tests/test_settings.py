"""Settings fail by name, and every one of them is documented."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from sentiment.errors import SettingsError
from sentiment.settings import DEVELOPMENT_STORAGE, DevopsDeployment, GithubDeployment, Ingestion, Settings

ROOT = Path(__file__).parent.parent

INSTRUMENTATION_KEY = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"

GOOD = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "FEEDBACK_SIGNING_KEYS": "k" * 16}


def test_storage_and_keys_are_enough() -> None:
    """Everything else has a default."""
    settings = Settings.from_env(GOOD)
    assert settings.storage_connection_string == DEVELOPMENT_STORAGE
    assert settings.model_container == "models"
    assert settings.model_refresh_seconds == 30


def test_an_identity_needs_no_connection_string() -> None:
    """In Azure the app signs in as itself."""
    settings = Settings.from_env(
        GOOD | {"AzureWebJobsStorage": "", "AzureWebJobsStorage__accountName": "tweets"}
    )
    assert settings.blob_service_uri == "https://tweets.blob.core.windows.net"
    assert settings.storage_connection_string is None


def test_keys_rotate_newest_first() -> None:
    """Several keys are separated by commas."""
    assert Settings.from_env(GOOD | {"FEEDBACK_SIGNING_KEYS": f"{'a' * 16}, {'b' * 20}"}).signing_keys == (
        "a" * 16,
        "b" * 20,
    )


def test_pseudonyms_outlive_a_rotation_of_keys() -> None:
    """By default they hang on the oldest key, which is the one that was there before."""
    rotated = Settings.from_env(GOOD | {"FEEDBACK_SIGNING_KEYS": f"{'n' * 16},{'k' * 16}"})
    assert rotated.pseudonym_key == Settings.from_env(GOOD).pseudonym_key
    assert Settings.from_env(GOOD | {"FEEDBACK_PSEUDONYM_KEY": "p" * 16}).pseudonym_key == "p" * 16


def test_an_identity_finds_queues_and_tables_beside_the_blobs() -> None:
    """Unless they are elsewhere."""
    named = GOOD | {"AzureWebJobsStorage": "", "AzureWebJobsStorage__accountName": "tweets"}
    settings = Settings.from_env(named)
    assert settings.queue_service_uri == "https://tweets.queue.core.windows.net"
    assert settings.table_service_uri == "https://tweets.table.core.windows.net"
    other = Settings.from_env(named | {"AzureWebJobsStorage__tableServiceUri": "https://t.example"})
    assert other.table_service_uri == "https://t.example"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("AzureWebJobsStorage", "", "AzureWebJobsStorage is not set"),
        ("FEEDBACK_SIGNING_KEYS", "short", "FEEDBACK_SIGNING_KEYS must be secret keys of at least 16"),
        ("FEEDBACK_SIGNING_KEYS", "k" * 16 + ",", "FEEDBACK_SIGNING_KEYS must be"),
        ("MODEL_REFRESH_SECONDS", "abc", "MODEL_REFRESH_SECONDS must be a positive number, got 'abc'"),
        ("MODEL_REFRESH_SECONDS", "0", "MODEL_REFRESH_SECONDS must be a positive number, got '0'"),
        ("MODEL_REFRESH_SECONDS", "nan", "MODEL_REFRESH_SECONDS must be a positive number, got 'nan'"),
        ("TELEMETRY_SAMPLING", "2", "TELEMETRY_SAMPLING must be a number from 0 to 1, got '2'"),
        ("TELEMETRY_SAMPLING", "nan", "TELEMETRY_SAMPLING must be a number from 0 to 1, got 'nan'"),
        ("TELEMETRY_TEXT", "yes", "TELEMETRY_TEXT must be 0 or 1, got 'yes'"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "nonsense", "one has no '='"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "InstrumentationKey=abc", "which is a GUID"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "IngestionEndpoint=https://example.org", "which is a GUID"),
        (
            "APPLICATIONINSIGHTS_CONNECTION_STRING",
            f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=example.org",
            "must have an IngestionEndpoint that is an http",
        ),
        (
            "APPLICATIONINSIGHTS_CONNECTION_STRING",
            f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=http://example.org:99999",
            "must have an IngestionEndpoint that is an http",
        ),
        ("FEEDBACK_PSEUDONYM_KEY", "short", "FEEDBACK_PSEUDONYM_KEY must be secret keys of at least 16"),
        ("FEEDBACK_MAX_AGE_HOURS", "0", "FEEDBACK_MAX_AGE_HOURS must be a positive number, got '0'"),
        ("FEEDBACK_MAX_AGE_HOURS", "1e9", "FEEDBACK_MAX_AGE_HOURS must be at most 876,000 hours"),
        ("FEEDBACK_RETENTION_DAYS", "36501", "FEEDBACK_RETENTION_DAYS must be at most 36,500 days"),
        ("FEEDBACK_USER_CAP", "1.5", "FEEDBACK_USER_CAP must be a share above 0 and at most 1, got '1.5'"),
        ("FEEDBACK_RETENTION_DAYS", "a", "FEEDBACK_RETENTION_DAYS must be a whole number, 0 or more"),
        ("SAMPLE_PREDICTIONS", "1.1", "SAMPLE_PREDICTIONS must be a number from 0 to 1, got '1.1'"),
        ("DEPLOY_MODE", "gitlab", "DEPLOY_MODE must be direct, github or devops, got 'gitlab'"),
        ("WATCH_HOURS", "-1", "WATCH_HOURS must be a positive number, got '-1'"),
        ("PREDICT_THREADS", "-1", "PREDICT_THREADS must be a whole number, 0 or more, got '-1'"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_must_be(key: str, value: str, message: str) -> None:
    """The message alone is enough to mend it."""
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.from_env(GOOD | {key: value})
    assert caught.value.key == key


GITHUB = {
    "DEPLOY_MODE": "github",
    "DEPLOY_GITHUB_REPOSITORY": "us/tweets",
    "DEPLOY_GITHUB_TOKEN": "secret-of-github",
}
DEVOPS = {
    "DEPLOY_MODE": "devops",
    "DEPLOY_DEVOPS_ORGANIZATION": "us",
    "DEPLOY_DEVOPS_PROJECT": "our tweets",
    "DEPLOY_DEVOPS_PIPELINE_ID": "3",
    "DEPLOY_DEVOPS_TOKEN": "secret-of-devops",
}


def test_a_deployment_is_read_as_a_whole() -> None:
    """Each mode with what it needs, and the public services as its endpoints."""
    assert Settings.from_env(GOOD).deployment is None
    assert Settings.from_env(GOOD | GITHUB).deployment == GithubDeployment(
        endpoint="https://api.github.com", repository="us/tweets", token="secret-of-github"
    )
    own = Settings.from_env(GOOD | DEVOPS | {"DEPLOY_ENDPOINT": "https://tfs.example/"})
    assert own.deployment == DevopsDeployment(
        endpoint="https://tfs.example",
        organization="us",
        project="our tweets",
        pipeline=3,
        token="secret-of-devops",
    )
    # What a mode does not need may be anything.
    assert Settings.from_env(GOOD | DEVOPS | {"DEPLOY_MODE": "direct"}).deployment is None


@pytest.mark.parametrize("mode", [GITHUB, DEVOPS], ids=["github", "devops"])
def test_half_a_deployment_is_refused_by_name(mode: dict[str, str]) -> None:
    """Before anything was trained, not after."""
    for key in mode.keys() - {"DEPLOY_MODE"}:
        with pytest.raises(SettingsError, match=f"{key} is not set, and DEPLOY_MODE is") as caught:
            Settings.from_env(GOOD | mode | {key: ""})
        assert caught.value.key == key
    for key, value in (
        ("DEPLOY_GITHUB_REPOSITORY", "tweets"),
        ("DEPLOY_GITHUB_TOKEN", "a\nb"),
        ("DEPLOY_DEVOPS_TOKEN", "a b"),
        ("DEPLOY_DEVOPS_PIPELINE_ID", "0"),
        ("DEPLOY_ENDPOINT", "http://api.example"),
        ("DEPLOY_ENDPOINT", "https://me@api.example"),
        ("DEPLOY_ENDPOINT", "nonsense"),
    ):
        if key in mode or key == "DEPLOY_ENDPOINT":
            with pytest.raises(SettingsError, match=f"{key} must") as caught:
                Settings.from_env(GOOD | mode | {key: value})
            assert "TOKEN" not in key or value not in str(caught.value)


def test_a_watch_can_be_switched_off() -> None:
    """By no hours at all."""
    assert Settings.from_env(GOOD).watch_hours == 24
    assert Settings.from_env(GOOD | {"WATCH_HOURS": "0"}).watch_hours == 0


@pytest.mark.parametrize(
    ("more", "endpoint"),
    [
        ("", "https://dc.services.visualstudio.com"),
        (
            ";IngestionEndpoint=https://westeurope-1.in.applicationinsights.azure.com/;LiveEndpoint=https://x/",
            "https://westeurope-1.in.applicationinsights.azure.com",
        ),
        (";EndpointSuffix=applicationinsights.azure.cn", "https://dc.applicationinsights.azure.cn"),
        ("; ingestionendpoint = http://127.0.0.1:5000/ ;", "http://127.0.0.1:5000"),
    ],
)
def test_a_connection_string_of_application_insights_is_taken_apart(more: str, endpoint: str) -> None:
    """Key and endpoint; parts may come in any case, and others may stand beside them."""
    value = f"InstrumentationKey={INSTRUMENTATION_KEY}{more}"
    settings = Settings.from_env(GOOD | {"APPLICATIONINSIGHTS_CONNECTION_STRING": value})
    assert settings.ingestion == Ingestion(INSTRUMENTATION_KEY, endpoint)


def test_telemetry_is_off_unless_it_is_asked_for() -> None:
    """No connection string, no telemetry; with one, everything but texts."""
    settings = Settings.from_env(GOOD)
    assert settings.ingestion is None
    assert (settings.telemetry_sampling, settings.telemetry_text) == (1.0, False)


WORKSPACE = {
    "AZUREML_SUBSCRIPTION_ID": "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
    "AZUREML_RESOURCE_GROUP": "tweets",
    "AZUREML_WORKSPACE": "learning",
}


def test_nothing_is_retrained_unless_a_workspace_is_named() -> None:
    """With one, everything else has a default."""
    assert Settings.from_env(GOOD).azureml is None
    azureml = Settings.from_env(GOOD | WORKSPACE).azureml
    assert azureml is not None
    assert (azureml.endpoint, azureml.token) == ("https://management.azure.com", None)
    assert (azureml.component, azureml.compute) == ("sentiment_retrain:1", None)
    assert azureml.golden_data == "azureml:sentiment-golden:1"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *((key, "", f"{key} is not set: retraining needs") for key in WORKSPACE),
        ("AZUREML_WORKSPACE", "a/b", "AZUREML_WORKSPACE must be a name without slashes or spaces, got 'a/b'"),
        ("AZUREML_ENDPOINT", "http://example.org", "AZUREML_ENDPOINT must be an https address"),
        ("AZUREML_ENDPOINT", "https://example.org:0", "AZUREML_ENDPOINT must be an https address"),
        ("AZUREML_ENDPOINT", "ftp://localhost", "AZUREML_ENDPOINT must be an https address"),
        ("AZUREML_ENDPOINT", "http://localhost:1", "AZUREML_TOKEN is not set"),
        ("AZUREML_COMPONENT", "retrain", "AZUREML_COMPONENT must be a component's name:version"),
        ("AZUREML_TIMEOUT_SECONDS", "0", "AZUREML_TIMEOUT_SECONDS must be a positive number"),
        ("RETRAIN_BASE_DATA", "base.tsv", "RETRAIN_BASE_DATA must be azureml:name:version or an address"),
    ],
)
def test_a_workspace_is_named_entirely_or_not_at_all(key: str, value: str, message: str) -> None:
    """And tokens go over plain http to this machine only."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        Settings.from_env(GOOD | WORKSPACE | {key: value})


def test_the_account_that_an_identity_signs_in_to_is_known_by_name() -> None:
    """Its name is what steps that run elsewhere are given; a connection string is never passed on."""
    named = GOOD | {"AzureWebJobsStorage": "", "AzureWebJobsStorage__accountName": "tweets"}
    assert Settings.from_env(named).storage_account == "tweets"
    assert Settings.from_env(GOOD).storage_account is None


def test_the_pipeline_is_told_what_is_not_as_usual() -> None:
    """Its steps run on a cluster that sees none of the app's settings."""
    usual = Settings.from_env({"AzureWebJobsStorage__accountName": "tweets"})
    assert usual.pipeline_inputs == {"deploy_mode": "direct", "storage_account": "tweets"}
    containers = {"MODEL_CONTAINER": "ours", "RETRAIN_CONTAINER": "loop"}
    local = Settings.from_env({"AzureWebJobsStorage": "UseDevelopmentStorage=true", **containers})
    assert local.pipeline_inputs == {
        "deploy_mode": "direct",
        "model_container": "ours",
        "retrain_container": "loop",
    }


def test_a_secret_never_shows_up_in_a_message() -> None:
    """Messages end up in logs."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(GOOD | {"FEEDBACK_SIGNING_KEYS": "hunter2"})
    assert "hunter2" not in str(caught.value)


def _names_read() -> set[str]:
    """Return the keys that `Settings.from_env` asks the environment for."""
    tree = ast.parse((ROOT / "sentiment" / "settings.py").read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for argument in node.args[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    names.add(argument.value)
    return {name for name in names if re.fullmatch(r"[A-Z]+_[A-Z_]+|AzureWebJobsStorage\w*", name)}


def test_every_setting_is_in_the_readme_and_the_example() -> None:
    """A setting nobody can find is none."""
    names = _names_read()
    assert {"MODEL_REFRESH_SECONDS", "FEEDBACK_SIGNING_KEYS", "AzureWebJobsStorage"} <= names
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = json.loads((ROOT / "local.settings.json.example").read_text(encoding="utf-8"))["Values"]
    for name in names:
        assert f"`{name}`" in readme, f"{name} is not in the README"
        # What only means something in Azure has no place in local settings.
        assert name in example or "__" in name, f"{name} is not in local.settings.json.example"
