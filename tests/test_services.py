"""Clients are made in one place, when they are first needed, from settings; and tests can bring their own."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localhost.azurite import ACCOUNT_KEY, Azurite
from sentiment import services as services_module
from sentiment.classifier import Classifier
from sentiment.errors import ModelNotFound, SettingsError, StoreUnavailable
from sentiment.services import Services, get_services, use_services
from sentiment.settings import Settings
from tests.models import make_model_folder

HERE = Path(__file__).parent


def _environ(tmp_path: Path, **environ: str) -> dict[str, str]:
    return {
        "FEEDBACK_SIGNING_KEYS": "not-a-secret-in-tests",
        "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
        "MODEL_CONTAINER": f"t{abs(hash(tmp_path))}",
        "MODEL_REFRESH_SECONDS": "3600",
        "PREDICT_THREADS": "1",
        **environ,
    }


@pytest.fixture
def environ(azurite: Azurite, tmp_path: Path) -> dict[str, str]:
    return _environ(tmp_path, AzureWebJobsStorage=azurite.connection_string)


@pytest.fixture
def services(environ: dict[str, str]) -> Iterator[Services]:
    services = Services(Settings.from_env(environ))
    yield services
    services.close()


@pytest.fixture
def sdk_logger() -> Iterator[logging.Logger]:
    """The logger of the whole SDK as a new process finds it."""
    logger = logging.getLogger("azure")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)


def test_the_settings_lead_to_a_model_that_answers(services: Services, tmp_path: Path) -> None:
    """From nothing but settings: publish, promote, serve with the real classifier."""
    services.registry.publish(make_model_folder(tmp_path / "model", "tiny-1", "positive"))
    services.registry.promote("tiny-1", by="test", reason="to see")
    loaded = services.serving.current()
    assert isinstance(loaded.classifier, Classifier)
    assert loaded.classifier.predict(["nothing it knows"])[0].label == "positive"
    assert (tmp_path / "cache" / loaded.champion.sha256).is_dir()


def test_everything_is_built_once(services: Services) -> None:
    """However many requests come first."""
    start = threading.Barrier(8, timeout=20)

    def ask(_: int) -> tuple[int, int]:
        start.wait()
        return id(services.registry), id(services.serving)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1


def test_after_closing_it_can_begin_anew(services: Services) -> None:
    before = services.registry
    services.close()
    services.close()
    assert services.registry is not before
    with pytest.raises(ModelNotFound):
        services.registry.champion()


@pytest.mark.parametrize(
    "malformed", ["nonsense", "AccountName=me;AccountKey", "DefaultEndpointsProtocol=https"]
)
def test_a_malformed_connection_string_is_named_and_kept_out_of_the_message(
    tmp_path: Path, malformed: str
) -> None:
    services = Services(
        Settings.from_env(_environ(tmp_path, AzureWebJobsStorage=f"{malformed};Key={ACCOUNT_KEY}"))
    )
    with pytest.raises(SettingsError) as caught:
        _ = services.registry
    assert caught.value.key == "AzureWebJobsStorage"
    assert ACCOUNT_KEY not in str(caught.value)


def test_an_identity_signs_in_only_over_https(tmp_path: Path) -> None:
    """A token must not travel in the open: the SDK refuses, we name the setting."""
    environ = _environ(tmp_path, AzureWebJobsStorage__blobServiceUri="http://127.0.0.1:9/account")
    services = Services(Settings.from_env(environ))
    with pytest.raises(SettingsError) as caught:
        _ = services.registry
    assert caught.value.key == "AzureWebJobsStorage__blobServiceUri"
    services.close()


def test_nothing_is_loaded_before_it_is_needed(tmp_path: Path) -> None:
    """No SDK and no runtime at import, and the identity's libraries only where an identity signs in."""
    program = (
        "import os, sys\n"
        "def seen(): return [name for name in"
        " ('azure.storage.blob', 'azure.identity', 'onnxruntime', 'tokenizers') if name in sys.modules]\n"
        "from sentiment.services import Services, get_services\n"
        "print(seen())\n"
        "services = get_services(); services.serving; print(seen())\n"
        "from sentiment.settings import Settings\n"
        "del os.environ['AzureWebJobsStorage']\n"
        "other = Services(Settings.from_env(os.environ)); other.registry; print(seen())\n"
        "services.close(); other.close()\n"
    )
    environ = _environ(
        tmp_path,
        AzureWebJobsStorage="UseDevelopmentStorage=true",
        AzureWebJobsStorage__accountName="nobody",
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=HERE.parent,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines() == [
        "[]",
        "['azure.storage.blob']",
        "['azure.storage.blob', 'azure.identity']",
    ]


def test_where_nothing_listens_the_answer_comes_within_seconds(tmp_path: Path) -> None:
    """The SDK's own defaults would keep a request waiting for more than a minute."""
    nowhere = Azurite(None, 9, 9, 9, install_folder=tmp_path).connection_string
    services = Services(Settings.from_env(_environ(tmp_path, AzureWebJobsStorage=nowhere)))
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"read champion\.json"):
        services.serving.current()
    assert time.monotonic() - started < 10
    services.close()


def test_the_sdk_does_not_fill_the_logs(
    services: Services, sdk_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """The platform logs at INFO, where the SDK tells of every header of every request."""
    caplog.set_level(logging.INFO)
    assert services.registry.versions() == []
    assert [record.name for record in caplog.records] == []


def test_a_level_that_was_set_for_the_sdk_is_respected(
    services: Services, sdk_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sdk_logger.setLevel(logging.INFO)
    services.registry.versions()
    assert any(record.name.startswith("azure.") for record in caplog.records)


def test_a_process_has_one_set_of_services(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Built from the environment at the first call; a test brings its own for a while."""
    monkeypatch.setattr(services_module, "_services", None)
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    services = get_services()
    assert services is get_services()
    assert services.settings == Settings.from_env(environ)
    assert services.signer is get_services().signer
    own = Services(services.settings)
    with use_services(own) as given:
        assert given is own
        assert get_services() is own
    assert get_services() is services
    services.close()


def test_a_malformed_environment_is_reported_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is mended: the first failure is not remembered."""
    monkeypatch.setattr(services_module, "_services", None)
    monkeypatch.setenv("AzureWebJobsStorage", "UseDevelopmentStorage=true")
    monkeypatch.setenv("FEEDBACK_SIGNING_KEYS", "short")
    for _ in range(2):
        with pytest.raises(SettingsError, match="FEEDBACK_SIGNING_KEYS"):
            get_services()
    monkeypatch.setenv("FEEDBACK_SIGNING_KEYS", "not-a-secret-in-tests")
    assert get_services().settings.signing_keys == ("not-a-secret-in-tests",)
