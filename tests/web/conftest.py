"""A real Chromium in front of `python -m localhost`, with the repository's app and a small model."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localhost.azurite import Azurite, find_node
from tests.conftest import INSTALL_FOLDER
from tests.localhost.apps import until
from tests.models import make_model_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

#: Chromium asks nothing of any other host; as root it has no sandbox.
_SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Served:
    """The app, as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], said: str) -> None:
        self.process = process
        self.url = _found(r"Page: +(\S+)", said)
        ports = [int(port) for port in _found(r"on ports (\d+, \d+, \d+)", said).split(",")]
        self.storage = Azurite(None, *ports, install_folder=INSTALL_FOLDER).connection_string
        self.key = _found(r"Function key: (\S+)", said) if "Function key" in said else ""

    def stop(self) -> None:
        """Stop it, storage and all."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


def _found(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    assert found, said
    return found[1]


@contextmanager
def serve(folder: Path, azurite: Azurite, *arguments: str) -> Iterator[Served]:
    """Serve the repository's app with a model that adds up words (`tests.models`)."""
    for name in ("function_app.py", "host.json"):
        shutil.copy(ROOT / name, folder)
    make_model_folder(folder / "seed-model")
    (folder / "state").mkdir()
    (folder / "state" / "programs").symlink_to(azurite.install_folder)
    output = folder / "output.txt"
    command = [sys.executable, "-m", "localhost", "--app", str(folder), "--state", str(folder / "state")]
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", "0", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, "the app answers")
        served = Served(process, output.read_text())
        yield served
        served.stop()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def app(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app without keys."""
    with serve(tmp_path_factory.mktemp("app"), azurite) as served:
        yield served


@pytest.fixture(scope="session")
def locked_app(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app that asks for keys, as Azure does."""
    with serve(tmp_path_factory.mktemp("locked"), azurite, "--keys") as served:
        yield served


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or whatever CHROMIUM names."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "these tests need Chromium: apt-get install chromium, or set CHROMIUM to its path"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_SWITCHES))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open the page as somebody would; whatever it says to the console that is no refusal fails the test."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"locale": "en-GB", **options})
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not faults


def _is_fault(message: Any) -> bool:
    # An answer that is no 2xx is written there by the browser itself.
    return message.type in ("error", "warning") and not message.text.startswith("Failed to load resource")


@pytest.fixture(scope="session")
def axe(azurite: Azurite) -> str:
    """The source of axe-core, of the version in the lock file; installed once."""
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = INSTALL_FOLDER.resolve() / f"axe-{digest}"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, unfinished)
        npm = find_node(INSTALL_FOLDER).npm
        subprocess.run(
            [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=unfinished,
            check=True,
            capture_output=True,
        )
        unfinished.rename(folder)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
