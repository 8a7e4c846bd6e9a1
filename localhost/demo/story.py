"""The demonstration itself: users correct, the timer fires, a candidate is trained, judged and serves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from localhost.azureml.records import JobFolders, StepStatus
from localhost.console import say
from localhost.demo.client import Client, Onlooker
from localhost.demo.crowd import Feedback, take_part
from localhost.demo.material import PIPELINE_FILES, Material, write
from localhost.demo.process import clear, serving
from localhost.errors import LocalhostError
from localhost.running import Running, run_now
from sentiment.corrections import judgements
from sentiment.records import Champion
from sentiment.retrain.records import State
from sentiment.retrain.state import read_state
from sentiment.services import Services
from sentiment.settings import Settings

TIMER = "retrain_tick"
#: Of the corrections, so many start a cycle: some are held until a second user agrees.
THRESHOLD_SHARE = 2 / 3
#: So often the timer fires here, and the app asks which model is champion, in seconds.
TICK_SECONDS = 5.0
REFRESH_SECONDS = 5.0
#: So often the onlooker asks for a prediction, in seconds.
LOOK_SECONDS = 0.2

# No timer fires by itself while the users are still at it: the demonstration has it fire.
_NEVER = "0 0 0 29 2 *"
_POLL_SECONDS = 0.2
_STORED_SECONDS = 300.0
_SWAP_SECONDS = 120.0


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be played: which app, where its state goes, with which tweets and how many corrections."""

    app: Path
    state: Path
    programs: Path
    port: int
    material: Material
    corrections: int
    confirm: float
    #: How long the job may take.
    job_seconds: float = 3600.0

    @property
    def threshold(self) -> int:
        """Accepted errors that start the cycle."""
        return max(1, round(self.corrections * THRESHOLD_SHARE))

    @property
    def settings(self) -> dict[str, str]:
        """What the app is told beyond its settings file."""
        files = {name: path.resolve().as_uri() for name, path in self.material.files.items()}
        return {
            "RETRAIN_SCHEDULE": _NEVER,
            "RETRAIN_THRESHOLD": str(self.threshold),
            "MODEL_REFRESH_SECONDS": f"{REFRESH_SECONDS:g}",
            "DEPLOY_MODE": "direct",
            **{f"RETRAIN_{name.upper()}_DATA": files[name] for name in PIPELINE_FILES},
        }


class Score(Struct, frozen=True):
    """How good a version is on the tweets held out, each 0 to 1."""

    version: str
    accuracy: float
    macro_recall: float


class Result(Struct, frozen=True, kw_only=True):
    """What came of it."""

    verdict: Literal["promoted", "refused"]
    reasons: tuple[str, ...]
    job: str
    corrections: int
    confirmations: int
    learned: int
    before: Score
    candidate: Score
    #: Predictions of the onlooker, and what went wrong with them.
    requests: int
    failures: tuple[str, ...]
    #: Versions that answered, and when each first did, in seconds.
    versions: dict[str, float]
    seconds: float


class Clock:
    """Seconds since the demonstration began, and lines with them."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Write what happens now."""
        say(f"{self():5.0f} s  {text}")


def play(plan: Plan) -> Result:
    """Play the whole loop and return what came of it.

    Raises:
        LocalhostError: something did not work; the message says what, and where to look.
        SentimentError: storage or a file cannot be used.
    """
    clock = Clock()
    clear(plan.state, plan.programs)
    write(plan.material.held_out, plan.state / "heldout.tsv")
    clock.say(
        f"{len(plan.material.stream):,} tweets to send; {len(plan.material.held_out):,} are held out: "
        "neither sent nor corrected"
    )
    clock.say(f"starting the app, its storage and a local Azure ML in {plan.state}")
    with serving(plan.app, plan.state, plan.port, plan.settings) as running:
        _check_local(running)
        environ = {**running.settings, "MODEL_CACHE_FOLDER": str(plan.state / "fetched")}
        services = Services(Settings.from_env(environ))
        try:
            return _play(plan, running, services, clock)
        finally:
            services.close()


def _play(plan: Plan, running: Running, services: Services, clock: Clock) -> Result:
    champion = services.registry.champion().champion
    before = _score(plan, services, champion)
    clock.say(f"{running.url} answers with {champion.version}; on the tweets held out: {_said(before)}")
    feedback = _correct(plan, running, services, clock)
    state = _begin(plan, running, services, feedback, clock)
    # From here on: what it asks is no part of the traffic that the cycle counts.
    texts = [tweet.text for tweet in plan.material.stream]
    with Onlooker(running.url, texts, every=LOOK_SECONDS, now=clock) as onlooker:
        state = _follow(plan, running, services, state, clock)
        folders = JobFolders(plan.state / "azureml" / "jobs")
        if state.phase == "settled":
            clock.say(f"the gate let {state.version} pass; the champion pointer was moved")
            _await_version(str(state.version), onlooker, running, clock)
        else:
            clock.say(f"REFUSED: {state.why}")
        clock.say(f"the gate's report: {folders.of(state.job) / 'gate' / 'report' / 'gate.md'}")
        learned = _learned(running, services, feedback, state, clock)
        candidate = _score_of(plan, folders.of(state.job) / "train" / "model" / "model", "candidate")
    clock.say(
        f"the onlooker asked {onlooker.requests:,} times: {len(onlooker.failures)} failed, "
        f"the slowest answer took {onlooker.slowest:.2f} s"
    )
    return Result(
        verdict="promoted" if state.phase == "settled" else "refused",
        reasons=() if state.phase == "settled" else (state.why,),
        job=state.job,
        corrections=len(feedback.corrections),
        confirmations=len(feedback.confirmations),
        learned=learned,
        before=before,
        candidate=candidate,
        requests=onlooker.requests,
        failures=tuple(onlooker.failures),
        versions=onlooker.versions,
        seconds=clock(),
    )


def _check_local(running: Running) -> None:
    """Refuse where the settings file names a real workspace: the pipeline is to run here."""
    endpoint = running.settings.get("AZUREML_ENDPOINT", "")
    if urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost"):
        raise LocalhostError(
            "the settings name a workspace of Azure ML, and the demonstration works in the local one: "
            "leave AZUREML_WORKSPACE and its companions out of local.settings.json meanwhile"
        )


# --- the users --------------------------------------------------------------


def _correct(plan: Plan, running: Running, services: Services, clock: Clock) -> Feedback:
    clock.say("people send tweets, correct the answers that are wrong and confirm some that are right")
    with Client(running.url) as client:
        feedback = take_part(client, plan.material.stream, corrections=plan.corrections, confirm=plan.confirm)
    clock.say(
        f"{feedback.sent:,} tweets sent, {len(feedback.corrections):,} answers corrected and "
        f"{len(feedback.confirmations):,} confirmed; they are on the queue"
    )
    deadline = time.monotonic() + _STORED_SECONDS
    while missing := len(set(feedback.ids) - (states := _states(services)).keys()):
        if time.monotonic() > deadline:
            raise LocalhostError(f"after {_STORED_SECONDS:.0f} seconds {missing:,} are not in the store")
        time.sleep(_POLL_SECONDS)
    said = ", ".join(f"{count:,} {state}" for state, count in sorted(Counter(states.values()).items()))
    clock.say(f"all of them are in the store: {said}")
    with Client(running.url) as client:
        for id in feedback.some:
            answer = client.get(f"/api/corrections/{id}")
            if answer["state"] != states[id]:
                raise LocalhostError(f"correction {id} is {states[id]}, and the app says {answer['state']}")
    return feedback


def _states(services: Services) -> dict[str, str]:
    """Return the state of everything that is stored and no model has learned."""
    return {id: judgement.state for id, judgement in judgements(services).items()}


# --- the timer --------------------------------------------------------------


def _begin(plan: Plan, running: Running, services: Services, feedback: Feedback, clock: Clock) -> State:
    """Have the timer fire, and return the state of the cycle that this begins."""
    clock.say(f"the timer fires, every {TICK_SECONDS:.0f} seconds from now on")
    _fire(running)
    state = read_state(services.retrain_blobs)
    if state.phase == "collecting":
        raise LocalhostError(
            f"{len(feedback.corrections):,} corrections start no cycle, {plan.threshold:,} accepted ones are "
            "needed: give a longer file with --data, or fewer with --corrections"
        )
    clock.say(f"cycle {state.cycle} has begun ({state.reason}): job {state.job}")
    return state


def _follow(plan: Plan, running: Running, services: Services, state: State, clock: Clock) -> State:
    """Have the timer fire until the cycle is over, and return the state then."""
    deadline = time.monotonic() + plan.job_seconds
    steps = _Steps(JobFolders(plan.state / "azureml" / "jobs"), state.job, clock)
    while state.phase == "running":
        if time.monotonic() > deadline:
            raise LocalhostError(f"the job {state.job} is not over after {plan.job_seconds:.0f} seconds")
        until = time.monotonic() + TICK_SECONDS
        while time.monotonic() < until:
            steps.tell()
            time.sleep(_POLL_SECONDS)
        _fire(running)
        state = read_state(services.retrain_blobs)
    steps.tell()
    if state.phase == "failed" and not state.refused:
        raise LocalhostError(
            f"cycle {state.cycle} failed: {state.why}",
            f"see: python -m localhost --state {plan.state} jobs {state.job}",
        )
    return state


def _fire(running: Running) -> None:
    if not run_now(running, TIMER):
        raise LocalhostError(f"{TIMER} did not run")


class _Steps:
    """Says which step of a job begins and how long it took."""

    def __init__(self, folders: JobFolders, job: str, clock: Clock) -> None:
        self._folders = folders
        self._job = job
        self._clock = clock
        self._known: dict[str, StepStatus] = {}
        self._began: dict[str, float] = {}

    def tell(self) -> None:
        """Say what has changed."""
        for job in self._folders.read():
            if job.name != self._job:
                continue
            for name, step in job.steps.items():
                if step.status == self._known.get(name, "NotStarted"):
                    continue
                self._known[name] = step.status
                if step.status == "Running":
                    self._began[name] = self._clock()
                    continue
                took = self._clock() - self._began.get(name, self._clock())
                self._clock.say(f"  step {name}: {step.status.lower()} after {took:.0f} s")


# --- what came of it --------------------------------------------------------


def _await_version(version: str, onlooker: Onlooker, running: Running, clock: Clock) -> None:
    deadline = time.monotonic() + _SWAP_SECONDS
    while version not in onlooker.versions:
        if time.monotonic() > deadline:
            raise LocalhostError(f"after {_SWAP_SECONDS:.0f} seconds the app does not answer with {version}")
        time.sleep(_POLL_SECONDS)
    clock.say(f"the running app answers with {version}, process {running.process_id} as before")


def _learned(running: Running, services: Services, feedback: Feedback, state: State, clock: Clock) -> int:
    """Return how many corrections this cycle has learned from."""
    ours = set(feedback.ids)
    learned = {
        correction.id
        for correction in services.corrections.all()
        if correction.id in ours and correction.cycle == state.cycle
    }
    with Client(running.url) as client:
        for id in feedback.some:
            answer = client.get(f"/api/corrections/{id}")
            if (answer["state"] == "learned") != (id in learned):
                raise LocalhostError(f"correction {id}: the app says {answer['state']}")
    clock.say(f"{len(learned):,} of {len(ours):,} corrections and confirmations are learned")
    return len(learned)


def _score(plan: Plan, services: Services, champion: Champion) -> Score:
    return _score_of(plan, services.registry.fetch(champion.version, champion.sha256), champion.version)


def _score_of(plan: Plan, model: Path, name: str) -> Score:
    """Return how good a model folder is on the tweets held out, by the product's own command."""
    out = plan.state / f"heldout-{name}.json"
    command = [sys.executable, "-m", "sentiment", "evaluate", "--model", str(model.resolve())]
    held_out = (plan.state / "heldout.tsv").resolve()
    done = subprocess.run(
        [*command, "--data", str(held_out), "--json", str(out.resolve())],
        cwd=plan.app,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalhostError(f"{model} cannot be measured: {done.stderr.strip()}")
    report = msgspec.json.decode(out.read_bytes(), type=_Report)
    return Score(report.model_version, report.metrics.accuracy, report.metrics.macro_recall)


class _Measures(Struct):
    accuracy: float
    macro_recall: float


class _Report(Struct):
    model_version: str
    metrics: _Measures


def _said(score: Score) -> str:
    return f"accuracy {score.accuracy:.1%}, macro-recall {score.macro_recall:.1%}"
