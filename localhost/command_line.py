"""The commands: run the app, `tick` one of its timers, see its `events` and `jobs`, `reset` its storage,
play a `demo` of the whole loop."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from azure.core.exceptions import AzureError

from localhost.azureml.listing import describe_job, describe_jobs, read_log
from localhost.azureml.records import JobFolders
from localhost.azureml.runner import Runner
from localhost.azureml.server import AzureMLServer
from localhost.azurite import Azurite, ensure_installed, explained_disk_errors
from localhost.console import LOG_FILE, describe, say, step, tell, write_logs
from localhost.core_tools import find_core_tools, run_core_tools
from localhost.demo.command import add as add_demo
from localhost.demo.command import demo
from localhost.errors import LocalhostError
from localhost.functions import Function
from localhost.host import Host, bind
from localhost.host_json import HostOptions, read_host_json
from localhost.http_door import Keys
from localhost.ingestion import SETTING, IngestionServer, describe_event, read_events
from localhost.loading import load_functions
from localhost.local_settings import Secrets, read_local_settings, read_secrets, shared_settings
from localhost.provisioning import create_stores, ensure_champion
from localhost.running import Running, announced, find_running, only_one, run_now
from localhost.tweets import data_file, fetch_tweets
from sentiment.errors import SentimentError

logger = logging.getLogger(__name__)

#: Azurite's usual ports, where storage explorers look for it.
STORAGE_PORTS = (10000, 10001, 10002)
#: Below the state folder: what the app tells Application Insights.
TELEMETRY = "telemetry"
#: Below the state folder: the jobs of the local Azure ML.
AZUREML = "azureml"
#: Below the state folder: what those learn from where nobody says.
DATA = "data"
#: Below the state folder: the model registry of those jobs.
MLFLOW = "mlflow.db"
#: Below an app's folder: what a job runs.
PIPELINE = Path("azureml") / "pipeline.yml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        match options.command:
            case "tick":
                return tick(options.state, options.name)
            case "events":
                return events(options.state, options.json)
            case "env":
                return env(options.state)
            case "jobs":
                return jobs(options.state, options.name, options.log)
            case "reset":
                return reset(options.state)
            case "demo":
                return demo(options, options.state / DATA)
            case _:
                return run(options)
    except KeyboardInterrupt:
        say("Stopped.")
        return 0
    except (SentimentError, AzureError) as error:
        logger.info("cannot go on", exc_info=True)
        said = str(error).splitlines() or [type(error).__name__]
        # Of what the SDK says, the first line is for people; the rest is request numbers.
        for line in said if isinstance(error, SentimentError) else said[:1]:
            print(f"error: {line}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Start storage and the app, and serve until interrupted."""
    folder: Path = options.app.resolve()
    state: Path = options.state
    say(f"Starting the Function App in {folder}")
    with ExitStack() as stack:
        stack.enter_context(explained_disk_errors(state))
        stack.enter_context(only_one(state))
        write_logs(state / "logs")
        core_tools = find_core_tools() if options.host == "func" else None
        made_up = read_secrets(state)
        programs = state / "programs"
        ports = _storage_ports()
        azurite = Azurite(
            state / "azurite",
            *ports,
            install_folder=programs,
            log_file=state / "logs" / "azurite.log",
            say=tell,
        )
        told: dict[str, str] = {}
        if core_tools is None:  # func itself would send to it, more than the app has to tell
            told[SETTING] = stack.enter_context(IngestionServer(state / TELEMETRY)).connection_string
        with step("settings") as this:
            settings = read_local_settings(
                folder, state, azurite.connection_string, made_up, os.environ, **told
            )
            os.environ.update(settings.values)
            host_options = read_host_json(folder, os.environ)
            this.outcome = f"{settings.source}, host.json"
        if told.items() <= settings.values.items() and told:
            with step("telemetry") as this:
                this.outcome = "kept here, see python -m localhost events"
        runner = _start_azureml(folder, state, stack)
        # Before anything else takes time: the port is the likeliest thing to be taken.
        listening = bind(settings.port if options.port is None else options.port)
        stack.callback(listening.close)
        with step("programs") as this:
            this.outcome = f"{ensure_installed(programs, tell).name} in {programs}"
        stack.callback(azurite.stop)
        if core_tools is None:  # before storage is gone: counts of predictions are still to be written
            stack.callback(_close_services)
        functions = _start_and_load(azurite, folder, host_options)
        with step("stores") as this:
            create_stores(functions, host_options, os.environ)
            this.outcome = "queues, tables and containers are there"
        with step("model") as this:
            this.outcome = ensure_champion(folder)
        if runner is not None:
            stack.enter_context(runner)
        if core_tools is not None:
            return _run_core_tools(core_tools, folder, state, listening, functions, host_options)
        keys = Keys(made_up.function_key, made_up.master_key) if options.keys else None
        host = Host(functions, host_options, os.environ, listening=listening, state_folder=state, keys=keys)
        return _serve(host, made_up, state)


def tick(state: Path, name: str) -> int:
    """Run a timer or queue function of the running host now, and wait for it to finish."""
    say(f"{name} has run." if run_now(_running(state), name) else f"{name} was started.")
    return 0


def events(state: Path, as_json: bool) -> int:
    """Print what the app has told Application Insights on this machine, the oldest first."""
    found = False
    for envelope in read_events(state / TELEMETRY):
        found = True
        print(json.dumps(envelope, ensure_ascii=False) if as_json else describe_event(envelope))
    if not found:
        print("There are no events yet: they come a few seconds after a request.", file=sys.stderr)
    return 0


def jobs(state: Path, name: str | None, log: str | None) -> int:
    """Print the jobs of the local Azure ML, or one of them, or what one of its steps wrote."""
    folders = JobFolders(state / AZUREML / "jobs")
    if name is not None and log is not None:
        print(read_log(folders, name, log), end="")
        return 0
    if log is not None:
        raise LocalhostError(
            "--log needs the job's name before it: `python -m localhost jobs NAME --log STEP`"
        )
    lines = list(describe_jobs(folders) if name is None else describe_job(folders, name))
    for line in lines:
        print(line)
    if not lines:
        print("There are no jobs yet: a cycle of retraining starts one.", file=sys.stderr)
    return 0


def env(state: Path) -> int:
    """Print, for a shell, the settings with which another program works on the running app's storage."""
    for name, value in sorted(_running(state).settings.items()):
        say(f"export {name}={shlex.quote(value)}")
    return 0


def reset(state: Path) -> int:
    """Forget what is stored, downloaded models, timers, events and jobs; programs, keys and data stay."""
    with only_one(state):
        for name in ("azurite", "models", "timers", TELEMETRY, AZUREML):
            shutil.rmtree(state / name, ignore_errors=True)
        (state / MLFLOW).unlink(missing_ok=True)
    say("Storage is empty: the next start publishes the seed model again.")
    return 0


def _running(state: Path) -> Running:
    running = find_running(state)
    if running is None:
        raise LocalhostError("the app is not running here: start it first, `python -m localhost`")
    return running


def _start_and_load(azurite: Azurite, folder: Path, options: HostOptions) -> list[Function]:
    """Start the emulator while the app is imported: each takes a second or two."""
    with ThreadPoolExecutor(1) as pool:
        with step("app") as this:
            started = pool.submit(azurite.start)
            functions = load_functions(folder, options, os.environ)
            this.outcome = f"{len(functions)} functions, checked as the platform checks them"
        with step("storage") as this:
            started.result()
            ports = ", ".join(map(str, (azurite.blob_port, azurite.queue_port, azurite.table_port)))
            this.outcome = f"Azurite for blobs, queues and tables on ports {ports}"
    return functions


def _start_azureml(folder: Path, state: Path, stack: ExitStack) -> Runner | None:
    """Have the local Azure ML listen where the app has a pipeline and its settings name no workspace.

    The runner that is returned runs the jobs; it is to be entered when there is storage.
    """
    named = any(
        os.environ.get(f"AZUREML_{key}") for key in ("SUBSCRIPTION_ID", "RESOURCE_GROUP", "WORKSPACE")
    )
    if named or not (folder / PIPELINE).exists():
        return None
    data = state.resolve() / DATA

    def fetch(path: Path) -> None:
        if path.parent == data:
            fetch_tweets(data)

    with step("azure ml") as this:
        runner = Runner(state.resolve() / AZUREML / "jobs", folder / PIPELINE, os.environ, fetch)
        server = stack.enter_context(AzureMLServer(runner))
        os.environ.update(server.settings)
        for name in ("base", "validation", "golden"):
            os.environ[f"RETRAIN_{name.upper()}_DATA"] = (
                os.environ.get(f"RETRAIN_{name.upper()}_DATA") or data_file(data, name).as_uri()
            )
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{state.resolve() / MLFLOW}")
        this.outcome = "jobs run here, see python -m localhost jobs"
    return runner


def _serve(host: Host, made_up: Secrets, state: Path) -> int:
    function_key = made_up.function_key if host.keys else None

    def ready() -> None:
        describe(host.url, host.functions, host.router.routes, function_key, state / "logs" / LOG_FILE)

    async def serve() -> list[str]:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        return await host.serve(stopping, ready)

    unfinished = asyncio.run(serve())
    if unfinished:
        say(f"Stopped, without waiting longer for {', '.join(unfinished)}.")
    else:
        say("Stopped.")
    return 0


def _run_core_tools(
    program: str,
    folder: Path,
    state: Path,
    listening: socket.socket,
    functions: Sequence[Function],
    options: HostOptions,
) -> int:
    # Bound so far to keep others off; func binds it itself.
    host = Host(functions, options, os.environ, listening=listening, state_folder=state)
    url, port = host.url, listening.getsockname()[1]
    listening.close()

    def ready() -> None:
        describe(url, functions, host.router.routes, None, Path("above: func writes them here"))

    with announced(state, url, "", shared_settings(os.environ)):
        return run_core_tools(program, folder, port, os.environ, ready)


def _close_services() -> None:
    """Have the app send what it still has to tell; the process ends without its exit handlers."""
    if "sentiment.services" in sys.modules:  # an app of somebody else's has none
        from sentiment.services import close_services

        close_services()


def _storage_ports() -> tuple[int, int, int]:
    """Return Azurite's usual ports, or three free ones where another program has one of them."""
    try:
        return _free(STORAGE_PORTS)
    except LocalhostError:
        ports = _free((0, 0, 0))
        tell(f"storage takes other ports: of {STORAGE_PORTS[0]} to {STORAGE_PORTS[-1]} some are in use")
        return ports


def _free(ports: tuple[int, int, int]) -> tuple[int, int, int]:
    with ExitStack() as stack:
        bound = [bind(port) for port in ports]
        for one in bound:
            stack.enter_context(one)
        first, second, third = (one.getsockname()[1] for one in bound)
        return first, second, third


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, got {text!r}")
    return int(text)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m localhost",
        description="Run the Function App on this machine, without an Azure account.",
    )
    parser.add_argument("--port", type=_port, help="port to serve HTTP on (default 7071; 0 takes a free one)")
    parser.add_argument("--keys", action="store_true", help="ask callers for function keys, as Azure does")
    parser.add_argument(
        "--host",
        choices=("localhost", "func"),
        default="localhost",
        help="what runs the app: this package, or Core Tools' func",
    )
    parser.add_argument("--app", type=Path, default=Path(), help="folder of function_app.py (default: here)")
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(".localhost"),
        help="folder of storage, logs and keys (default .localhost)",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    tick_parser = commands.add_parser("tick", help="run a timer function of the running app now")
    tick_parser.add_argument("name", help="the function's name")
    events_parser = commands.add_parser("events", help="print what the app told Application Insights here")
    events_parser.add_argument("--json", action="store_true", help="whole envelopes, one a line")
    jobs_parser = commands.add_parser("jobs", help="list the jobs of the local Azure ML, or show one")
    jobs_parser.add_argument("name", nargs="?", metavar="NAME", help="the job's name")
    jobs_parser.add_argument("--log", metavar="STEP", help="print what this step of it wrote")
    commands.add_parser("env", help='print the app\'s storage and keys for a shell: eval "$(... env)"')
    commands.add_parser("reset", help="empty the emulator's storage")
    add_demo(commands)
    return parser.parse_args(arguments)
