"""Settings and secrets of a developer's machine."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from localhost.errors import LocalhostError
from localhost.local_settings import LocalSettings, Secrets, read_local_settings, read_secrets

MADE_UP = Secrets("function-key", "master-key", {"FEEDBACK_SIGNING_KEYS": "made-up-signing-key"})


def _write(folder: Path, values: dict[str, Any], name: str = "local.settings.json", **more: Any) -> None:
    (folder / name).write_text(json.dumps({"IsEncrypted": False, "Values": values, **more}))


def _read(folder: Path, **environ: str) -> LocalSettings:
    return read_local_settings(folder, folder / "state", "the emulator", MADE_UP, environ)


def test_the_environment_wins_over_the_file_and_the_file_over_what_is_made_up(tmp_path: Path) -> None:
    """And only what the environment lacks is returned."""
    _write(tmp_path, {"A": "file", "B": "file", "N": 7, "T": True, "FEEDBACK_SIGNING_KEYS": "mine"})
    settings = _read(tmp_path, A="real")
    assert "A" not in settings.values
    assert settings.values["B"] == "file"
    assert (settings.values["N"], settings.values["T"]) == ("7", "true")
    assert settings.values["FEEDBACK_SIGNING_KEYS"] == "mine"
    assert settings.values["FUNCTIONS_WORKER_RUNTIME"] == "python"
    assert settings.source == "local.settings.json"
    assert settings.port == 7071


def test_a_setting_that_a_binding_names_has_a_default(tmp_path: Path) -> None:
    """A file from before the setting was there still starts the app."""
    _write(tmp_path, {})
    assert _read(tmp_path).values["RETRAIN_SCHEDULE"] == "0 */15 * * * *"
    assert _read(tmp_path, RETRAIN_SCHEDULE="0 0 * * * *").values.get("RETRAIN_SCHEDULE") is None
    _write(tmp_path, {"RETRAIN_SCHEDULE": "0 0 3 * * *"})
    assert _read(tmp_path).values["RETRAIN_SCHEDULE"] == "0 0 3 * * *"


@pytest.mark.parametrize("gap", ["", "<a key of at least 16 characters>", None])
def test_gaps_are_filled(tmp_path: Path, gap: str | None) -> None:
    """An example's placeholder is no secret."""
    _write(tmp_path, {"FEEDBACK_SIGNING_KEYS": gap}, "local.settings.json.example")
    settings = _read(tmp_path)
    assert settings.values["FEEDBACK_SIGNING_KEYS"] == "made-up-signing-key"
    assert settings.source == "local.settings.json.example"


def test_storage_is_always_the_emulator(tmp_path: Path) -> None:
    """A connection string of a real account, wherever it comes from, is not used."""
    _write(
        tmp_path,
        {"AzureWebJobsStorage": "real", "Other": "UseDevelopmentStorage=true"},
        Host={"LocalHttpPort": 7100},
    )
    settings = _read(tmp_path, AzureWebJobsStorage="real, too")
    assert settings.values["AzureWebJobsStorage"] == "the emulator"
    assert settings.values["Other"] == "the emulator"
    assert settings.port == 7100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "local.settings.json cannot be read"),
        ('{"Values": {"A": []}}', r"\$\.Values"),
        ('{"IsEncrypted": true}', "func settings decrypt"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """One line, naming the file."""
    (tmp_path / "local.settings.json").write_text(text)
    with pytest.raises(LocalhostError, match=said):
        _read(tmp_path)


def test_secrets_are_made_up_once_and_private(tmp_path: Path) -> None:
    """The same at every start, long enough, and for this user alone."""
    first = read_secrets(tmp_path / "state")
    assert read_secrets(tmp_path / "state") == first
    assert len({first.function_key, first.master_key, first.settings["FEEDBACK_SIGNING_KEYS"]}) == 3
    assert all(
        len(secret) >= 32 for secret in (first.function_key, first.master_key, *first.settings.values())
    )
    assert stat.S_IMODE((tmp_path / "state" / "secrets.json").stat().st_mode) == 0o600
    assert read_secrets(tmp_path / "other") != first


def test_a_secret_that_is_new_is_added_to_those_kept(tmp_path: Path) -> None:
    """An update of the product does not change the keys people have pasted."""
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"function_key": "f", "master_key": "m", "settings": {}}))
    kept = read_secrets(tmp_path)
    assert (kept.function_key, kept.master_key) == ("f", "m")
    assert kept.settings["FEEDBACK_SIGNING_KEYS"]
    assert read_secrets(tmp_path) == kept


def test_damaged_secrets_are_named(tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(LocalhostError, match="is damaged: remove it"):
        read_secrets(tmp_path)


def test_what_a_run_brings_is_for_settings_that_nobody_sets(tmp_path: Path) -> None:
    """Telemetry stays on this machine, unless somebody wants it elsewhere."""
    key = "APPLICATIONINSIGHTS_CONNECTION_STRING"

    def read(**environ: str) -> str | None:
        settings = read_local_settings(
            tmp_path, tmp_path / "state", "the emulator", MADE_UP, environ, **{key: "here"}
        )
        return settings.values.get(key)

    _write(tmp_path, {key: ""})
    assert read() == "here"
    assert read(**{key: "elsewhere"}) is None
    _write(tmp_path, {key: "in the file"})
    assert read() == "in the file"
