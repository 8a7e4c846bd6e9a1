"""What a person at the terminal reads, and where the rest is written."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

from localhost.functions import TIMER_TRIGGER, Function
from localhost.http_door import PAGE
from localhost.routes import Route

LOG_FILE = "host.log"

_TEXT = "I love how this turned out!"
_LARGEST_LOG = 10_000_000
_KEPT_LOGS = 3


class Step:
    """One step of the start: `outcome` is what its line says at the end."""

    outcome = ""


def say(text: str = "") -> None:
    """Write a line at once, also into a pipe."""
    print(text, flush=True)


def tell(text: str) -> None:
    """Write what a step is busy with."""
    say(f"  ... {text}")


@contextlib.contextmanager
def step(name: str) -> Iterator[Step]:
    """Write a line when the step is done: what came of it, and how long it took."""
    started = time.perf_counter()
    this = Step()
    yield this
    say(f"  {name:<9} {this.outcome:<72} {time.perf_counter() - started:5.1f} s")


def write_logs(folder: Path) -> None:
    """Send logs to `folder`, warnings and errors to the terminal as well."""
    folder.mkdir(parents=True, exist_ok=True)
    to_file = RotatingFileHandler(
        folder / LOG_FILE, maxBytes=_LARGEST_LOG, backupCount=_KEPT_LOGS, encoding="utf-8", delay=True
    )
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setLevel(logging.WARNING)
    to_terminal.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_file, to_terminal], force=True)
    # The SDK writes every request with its headers at INFO.
    logging.getLogger("azure").setLevel(logging.WARNING)


def describe(
    url: str, functions: Sequence[Function], routes: Sequence[Route], function_key: str | None, logs: Path
) -> None:
    """Write what is served, a curl line to paste, and where the logs are."""
    addresses = {route.function: f"/{route.template.text}" for route in routes}
    say()
    for function in functions:
        if function.answers_http:
            where = f"{' '.join(sorted(function.methods)) or 'ANY':<6} {url}{addresses[function.name]}"
        elif function.trigger.type == TIMER_TRIGGER:
            schedule = function.trigger.options.get("schedule")
            where = f"timer  {schedule}  (now: python -m localhost tick {function.name})"
        else:
            where = f"queue  {function.trigger.options.get('queueName')}"
        say(f"  {function.name:<18} {where}")
    say()
    say(f"The app answers at {url}")
    if f"/{PAGE}" in addresses.values():
        say(f"Page:    {url}/{PAGE}")
    if function_key:
        say(f"Function key: {function_key}")
    example = curl_line(url, routes, functions, function_key)
    if example:
        say(f"Try it:  {example}")
    say(f"Logs:    {logs}")
    say("Ctrl-C stops everything.")


def curl_line(
    url: str, routes: Sequence[Route], functions: Sequence[Function], function_key: str | None
) -> str | None:
    """Return a command that asks the app something, None when it answers no HTTP."""
    plain = [route for route in routes if not route.template.parameterised]
    if not plain:
        return None
    levels = {function.name: function.auth_level for function in functions}
    route = next((route for route in plain if route.template.text.endswith("/predict")), plain[0])
    words = ["curl", "-s", f"{url}/{route.template.text}"]
    if function_key and levels[route.function] != "anonymous":
        words += ["-H", f"x-functions-key: {function_key}"]
    if "POST" in route.methods and "GET" not in route.methods:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps({"text": _TEXT})]
    return shlex.join(words)
