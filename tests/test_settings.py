"""Settings fail by name, and every one of them is documented."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from sentiment.errors import SettingsError
from sentiment.settings import DEVELOPMENT_STORAGE, Settings

ROOT = Path(__file__).parent.parent

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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("AzureWebJobsStorage", "", "AzureWebJobsStorage is not set"),
        ("FEEDBACK_SIGNING_KEYS", "short", "FEEDBACK_SIGNING_KEYS must be secret keys of at least 16"),
        ("FEEDBACK_SIGNING_KEYS", "k" * 16 + ",", "FEEDBACK_SIGNING_KEYS must be"),
        ("MODEL_REFRESH_SECONDS", "abc", "MODEL_REFRESH_SECONDS must be a positive number, got 'abc'"),
        ("MODEL_REFRESH_SECONDS", "0", "MODEL_REFRESH_SECONDS must be a positive number, got '0'"),
        ("MODEL_REFRESH_SECONDS", "nan", "MODEL_REFRESH_SECONDS must be a positive number, got 'nan'"),
        ("PREDICT_THREADS", "-1", "PREDICT_THREADS must be a whole number, 0 or more, got '-1'"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_must_be(key: str, value: str, message: str) -> None:
    """The message alone is enough to mend it."""
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.from_env(GOOD | {key: value})
    assert caught.value.key == key


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
