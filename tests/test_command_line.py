"""The command line, through its real door: a process with arguments, standard input and an exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from localhost.azurite import Azurite
from sentiment.__main__ import build_parser
from sentiment.services import Services
from sentiment.settings import Settings
from tests.models import make_model_folder
from tests.stage import until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path / "model", "tiny-1")


def _run(
    *arguments: str | Path, stdin: bytes = b"", environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sentiment", *map(str, arguments)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        env=environ,
        timeout=120,
    )
    output, errors = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in errors, errors
    return subprocess.CompletedProcess(done.args, done.returncode, output, errors)


def test_predict_answers_each_text(model: Path) -> None:
    """One line a text, label first."""
    done = _run("predict", "--model", model, "I love it", "I hate it")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["positive", "negative"]
    assert done.returncode == 0


def test_predict_reads_lines_and_writes_json(model: Path) -> None:
    """A line that cannot be answered is named on standard error and costs no other."""
    done = _run("predict", "--model", model, "--json", "-", stdin="love\n\n \nhate \xff\n".encode("latin-1"))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["positive"]
    assert set(answers[0]) == {"text", "label", "scores", "truncated"}
    assert "line 3: The text is empty" in done.stderr
    assert "line 4: The text has half of a surrogate pair" in done.stderr
    assert done.returncode == 1


def test_predict_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    """No traceback: one line that names the file."""
    done = _run("predict", "--model", tmp_path, "hi")
    assert done.returncode == 1
    assert re.fullmatch(r"error: model .*: manifest.json: is missing.*\n", done.stderr)


def test_evaluate_judges_the_file_that_serves(model: Path, tmp_path: Path) -> None:
    """The same metrics as text and as JSON."""
    data, report = tmp_path / "data.tsv", tmp_path / "report.json"
    data.write_text(
        "label\ttext\nnegative\thate\npositive\tlove\nneutral\tbus\nneutral\tawful\n", encoding="utf-8"
    )
    done = _run("evaluate", "--model", model, "--data", data, "--json", report)
    assert done.returncode == 0
    assert "0.8333" in done.stdout
    metrics = json.loads(report.read_bytes())
    assert metrics["metrics"]["macro_recall"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert metrics["metrics"]["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert metrics["tweets_per_second"] > 0
    assert metrics["model_version"] == "tiny-1"


def test_evaluate_names_the_bad_line(model: Path, tmp_path: Path) -> None:
    """A data file is mended by its line number."""
    data = tmp_path / "data.tsv"
    data.write_text("label\ttext\nnegative\thate\nsad\tlove\n", encoding="utf-8")
    done = _run("evaluate", "--model", model, "--data", data)
    assert done.returncode == 1
    assert "line 3" in done.stderr
    assert "'sad'" in done.stderr


@pytest.fixture
def store(azurite: Azurite, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a command that works on a store of its own."""
    container = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    return {
        "AzureWebJobsStorage": azurite.connection_string,
        "MODEL_CONTAINER": container,
        "RETRAIN_CONTAINER": f"{container[:58]}-r",
        "FEEDBACK_SIGNING_KEYS": "not-a-secret-in-tests",
        "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
    }


def test_a_model_is_published_promoted_and_rolled_back(store: dict[str, str], tmp_path: Path) -> None:
    """The whole life of a version from the terminal, against real storage."""
    for version in ("tiny-1", "tiny-2"):
        folder = make_model_folder(tmp_path / version, version)
        assert f"published {version}" in _run("models", "publish", folder, environ=store).stdout
        done = _run("models", "promote", version, "--by", "tester", "--reason", "better", environ=store)
        assert f"{version} is the champion" in done.stdout
    assert "* tiny-2" in _run("models", "list", environ=store).stdout
    assert "tiny-1 is the champion" in _run("models", "rollback", environ=store).stdout
    history = _run("models", "history", environ=store).stdout
    assert "by tester: better" in history
    assert len(history.splitlines()) == 3


def _serves(services: Services, version: str) -> bool:
    return services.serving.current().champion.version == version


def test_a_running_instance_follows_a_roll_back_in_time(store: dict[str, str], tmp_path: Path) -> None:
    """Within MODEL_REFRESH_SECONDS of the command's end, and a moment to load."""
    services = Services(Settings.from_env(store | {"MODEL_REFRESH_SECONDS": "1", "PREDICT_THREADS": "1"}))
    for version in ("tiny-1", "tiny-2"):
        services.registry.publish(make_model_folder(tmp_path / version, version))
        services.registry.promote(version, by="test", reason="to see")
    assert services.serving.current().champion.version == "tiny-2"
    for command in (("rollback",), ("rollback", "--to", "tiny-2")):
        expected = "tiny-1" if len(command) == 1 else "tiny-2"
        assert f"{expected} is the champion" in _run("models", *command, environ=store).stdout
        ended = time.monotonic()
        until(partial(_serves, services, expected), f"{expected} serves")
        assert time.monotonic() - ended < 1 + 2
    services.close()


def test_a_deployment_promotes_what_was_compared_and_nothing_else(
    store: dict[str, str], tmp_path: Path
) -> None:
    """Over the champion that the gate saw, with the cycle in the reason; repeated, nothing changes."""
    for version in ("tiny-1", "tiny-2", "tiny-3"):
        _run("models", "publish", make_model_folder(tmp_path / version, version), environ=store)
    _run("models", "promote", "tiny-1", environ=store)
    compared = ("--cycle", "7", "--if-champion", "tiny-1", "--reason", "passed the gate")
    for _ in range(2):
        assert _run("models", "promote", "tiny-2", *compared, environ=store).returncode == 0
    assert ": cycle 7: passed the gate" in _run("models", "history", environ=store).stdout.splitlines()[0]
    done = _run("models", "promote", "tiny-3", *compared, environ=store)
    assert done.returncode == 1
    assert "tiny-2 serves, and tiny-3 was compared with tiny-1" in done.stderr
    assert len(_run("models", "history", environ=store).stdout.splitlines()) == 2


def test_what_is_rolled_back_for_good_never_returns(store: dict[str, str], tmp_path: Path) -> None:
    """Neither promoted again, nor rolled back to, nor passed on the way back."""
    for version in ("tiny-1", "tiny-2", "tiny-3"):
        _run("models", "publish", make_model_folder(tmp_path / version, version), environ=store)
        _run("models", "promote", version, environ=store)
    done = _run("models", "rollback", "--refuse", "--reason", "rude", environ=store)
    assert "tiny-2 is the champion; tiny-3 is never promoted again" in done.stdout
    for command in (("promote", "tiny-3"), ("rollback", "--to", "tiny-3")):
        done = _run("models", *command, environ=store)
        assert done.returncode == 1
        assert "tiny-3 was refused for good: rude" in done.stderr
    assert "tiny-1 is the champion" in _run("models", "rollback", environ=store).stdout
    assert "There was no champion before" in _run("models", "rollback", "--refuse", environ=store).stderr


def test_promoting_what_is_not_there_is_refused(store: dict[str, str], tmp_path: Path) -> None:
    """The name that was asked for is in the message."""
    _run("models", "publish", make_model_folder(tmp_path / "tiny-1"), environ=store)
    done = _run("models", "promote", "tiny-9", environ=store)
    assert done.returncode == 1
    assert "tiny-9" in done.stderr


def test_without_storage_the_setting_is_named() -> None:
    """The message says which setting, and what it must be."""
    done = _run("models", "list", environ={})
    assert done.returncode == 1
    assert done.stderr.startswith("error: AzureWebJobsStorage is not set")


def test_every_command_is_in_the_readme() -> None:
    """A command nobody can find is none."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands: list[str] = []
    for action in build_parser()._actions:
        for name, parser in (getattr(action, "choices", None) or {}).items():
            inner = [each for each in parser._actions if isinstance(getattr(each, "choices", None), dict)]
            commands += [f"{name} {choice}" for each in inner for choice in each.choices] or [name]
    assert len(commands) > 5
    for command in commands:
        assert f"python -m sentiment {command}" in readme, f"{command} is not in the README"
