"""The app's settings on a developer's machine, and the secrets made up for it.

Values come, the first that has one, from the real environment, from
`local.settings.json` (or `local.settings.json.example` while there is none), and
from here. Storage is always the emulator: no run on a laptop ever touches an
account in Azure.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from localhost.errors import LocalhostError
from localhost.functions import DEFAULT_CONNECTION

#: Read in this order; the first that exists counts.
FILES = ("local.settings.json", "local.settings.json.example")
#: Settings that must be secret, and so are made up once per machine when nobody sets them.
MADE_UP = ("FEEDBACK_SIGNING_KEYS", "FEEDBACK_PSEUDONYM_KEY")
#: Where the app keeps its models, if anybody says so, and where it has its jobs run on what.
SHARED = (
    "MODEL_CONTAINER",
    "RETRAIN_CONTAINER",
    "AZUREML_SUBSCRIPTION_ID",
    "AZUREML_RESOURCE_GROUP",
    "AZUREML_WORKSPACE",
    "AZUREML_ENDPOINT",
    "AZUREML_TOKEN",
    "AZUREML_COMPONENT",
    "RETRAIN_BASE_DATA",
    "RETRAIN_VALIDATION_DATA",
    "RETRAIN_GOLDEN_DATA",
)
#: Settings that bindings name, for a file from before they were there.
NAMED = {"RETRAIN_SCHEDULE": "0 */15 * * * *"}
DEFAULT_PORT = 7071

_EMULATOR = "UseDevelopmentStorage=true"


class _HostSection(Struct, frozen=True):
    port: int = msgspec.field(name="LocalHttpPort", default=DEFAULT_PORT)


class _LocalSettings(Struct, frozen=True):
    encrypted: bool = msgspec.field(name="IsEncrypted", default=False)
    values: dict[str, str | int | float | bool | None] = msgspec.field(name="Values", default_factory=dict)
    host: _HostSection = msgspec.field(name="Host", default_factory=_HostSection)


class Secrets(Struct, frozen=True):
    """What is made up at the first start and kept: keys for callers, values for settings."""

    function_key: str
    master_key: str
    settings: dict[str, str]


class LocalSettings(Struct, frozen=True):
    """The settings, where they were read from, and the port that file asks for."""

    values: dict[str, str]
    source: str
    port: int


def read_local_settings(
    folder: Path,
    state_folder: Path,
    connection_string: str,
    made_up: Secrets,
    environ: Mapping[str, str],
    **defaults: str,
) -> LocalSettings:
    """Return every setting of the app in `folder` that is not in `environ` already, and its storage.

    `defaults` are the settings that this run brings, for those that nobody sets.

    Raises:
        LocalhostError: the settings file cannot be read.
    """
    source, file = _read_file(folder)
    values = {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        **NAMED,
        "MODEL_CACHE_FOLDER": str((state_folder / "models").resolve()),
        **made_up.settings,
        **defaults,
        **{key: _text(value) for key, value in file.values.items() if _is_given(value)},
        **{key: value for key, value in environ.items() if value},
    }
    for key, value in values.items():
        # Any connection that stands for the emulator stands for this one.
        if value == _EMULATOR:
            values[key] = connection_string
    values[DEFAULT_CONNECTION] = connection_string
    return LocalSettings(
        values={key: value for key, value in values.items() if environ.get(key) != value},
        source=source,
        port=file.host.port,
    )


def read_secrets(state_folder: Path) -> Secrets:
    """Return the secrets kept in `state_folder`, made up the first time, for this user's eyes only."""
    path = state_folder / "secrets.json"
    kept = None
    if path.exists():
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Secrets)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LocalhostError(f"{path} is damaged: remove it, and new secrets are made up") from error
    made_up = Secrets(
        function_key=kept.function_key if kept else secrets.token_urlsafe(32),
        master_key=kept.master_key if kept else secrets.token_urlsafe(32),
        settings={
            key: (kept.settings if kept else {}).get(key) or secrets.token_urlsafe(32) for key in MADE_UP
        },
    )
    if made_up != kept:
        state_folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(made_up))
    return made_up


def shared_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that whoever works on the same storage must have alike."""
    return {name: environ[name] for name in (DEFAULT_CONNECTION, *SHARED, *MADE_UP) if environ.get(name)}


def _read_file(folder: Path) -> tuple[str, _LocalSettings]:
    for name in FILES:
        path = folder / name
        if not path.exists():
            continue
        try:
            settings = msgspec.json.decode(path.read_bytes(), type=_LocalSettings)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LocalhostError(
                f'{name} cannot be read: {error}. It looks like {{"IsEncrypted": false, "Values": {{...}}}}'
            ) from error
        if settings.encrypted:
            raise LocalhostError(f"{name} is encrypted: run `func settings decrypt`")
        return name, settings
    return "defaults", _LocalSettings()


def _is_given(value: object) -> bool:
    """Return whether a file's value is one, rather than a gap (`""`) or a hint (`"<...>"`)."""
    text = "" if value is None else str(value).strip()
    return bool(text) and not (text.startswith("<") and text.endswith(">"))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
