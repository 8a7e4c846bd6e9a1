"""Corrections through their real doors: HTTP, the queue, the command line and the timer."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueClient

from localhost.azurite import Azurite
from localhost.host import Host, bind
from localhost.host_json import read_host_json
from localhost.loading import load_functions
from localhost.provisioning import create_stores
from sentiment.services import Services, use_services
from sentiment.settings import Settings
from tests.localhost.apps import Reply, ServedApp, run_in_thread, until
from tests.models import make_model_folder

ROOT = Path(__file__).parent.parent
TEXT = "I love it @anna"


class World:
    """The product on a host, with an emulator of its own, because the names are fixed."""

    def __init__(self, app: ServedApp, environ: dict[str, str], services: Services) -> None:
        self.app = app
        self.environ = environ
        self.services = services

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        return self.app.request(
            method,
            path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"},
        )

    def predict(self, text: str = TEXT) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("POST", "/api/predict", {"text": text}).json()
        return answer

    def correct(self, label: str = "negative", text: str = TEXT, **members: str) -> Reply:
        token = members.pop("prediction", None) or self.predict(text)["prediction"]
        return self.ask(
            "POST", "/api/feedback", {"prediction": token, "text": text, "label": label, **members}
        )

    def state(self, id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("GET", f"/api/corrections/{id}").json()
        return answer

    def await_state(self, id: str, state: str) -> dict[str, Any]:
        until(lambda: self.state(id).get("state") == state, f"{id} {state}")
        return self.state(id)

    def queue(self, suffix: str = "") -> QueueClient:
        return QueueClient.from_connection_string(self.environ["AzureWebJobsStorage"], f"corrections{suffix}")

    def send(self, body: str | bytes) -> None:
        """As a foreign producer does, with nothing but the SDK."""
        raw = body.encode() if isinstance(body, str) else body
        with self.queue() as queue:
            queue.send_message(base64.b64encode(raw).decode())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "sentiment", "feedback", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environ},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def rows(self, table: str = "corrections") -> list[dict[str, Any]]:
        with TableServiceClient.from_connection_string(self.environ["AzureWebJobsStorage"]) as tables:
            return [dict(row) for row in tables.get_table_client(table).list_entities()]


@pytest.fixture(scope="module")
def emulator(azurite: Azurite) -> Iterator[Azurite]:
    with Azurite(None, install_folder=azurite.install_folder) as running:
        yield running


@pytest.fixture
def world(emulator: Azurite, tmp_path: Path) -> Iterator[World]:
    environ = {
        "AzureWebJobsStorage": emulator.connection_string,
        "FEEDBACK_SIGNING_KEYS": "a-key-of-some-length",
        "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
        "PREDICT_THREADS": "1",
        "SAMPLE_PREDICTIONS": "1",
        "RETRAIN_SCHEDULE": "0 0 3 1 1 *",
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.200",
        "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:00",
        "AzureFunctionsJobHost__extensions__queues__maxDequeueCount": "2",
    }
    folder = tmp_path / "app"
    folder.mkdir()
    for name in ("function_app.py", "host.json"):
        shutil.copy(ROOT / name, folder / name)
    options = read_host_json(folder, environ)
    functions = load_functions(folder, options, environ)
    create_stores(functions, options, environ)
    with TableServiceClient.from_connection_string(emulator.connection_string) as tables:
        for table in ("corrections", "quarantine", "samples", "usage"):
            client = tables.get_table_client(table)
            with suppress(ResourceNotFoundError):
                for row in list(client.list_entities()):
                    client.delete_entity(row)
    services = Services(Settings.from_env(environ))
    module = sys.modules["function_app"]
    with use_services(services):
        if not services.registry.versions():
            services.registry.publish(make_model_folder(tmp_path / "model"))
            services.registry.promote("tiny-1", by="test", reason="to see")
        host = Host(functions, options, environ, listening=bind(0), state_folder=tmp_path / "state")
        app = run_in_thread(host, module, environ, tmp_path / "state")
        try:
            world = World(app, environ, services)
            with world.queue() as queue, world.queue("-poison") as poison:
                queue.clear_messages()
                poison.clear_messages()
            yield world
        finally:
            app.stop()
            services.close()


def test_a_wrong_answer_is_corrected(world: World) -> None:
    """From the prediction to the row in the table; a double click is one correction."""
    token = world.predict()["prediction"]
    reply = world.correct(prediction=token, user="Bob", comment="not @carl")
    assert reply.status == 202
    accepted = reply.json()
    assert (accepted["kind"], accepted["state"]) == ("correction", "pending")
    assert reply.headers["Location"] == accepted["location"] == f"/api/corrections/{accepted['id']}"
    assert world.correct(prediction=token, user="Bob").json()["id"] == accepted["id"]
    settled = world.await_state(accepted["id"], "accepted")
    assert (settled["predicted"], settled["corrected"]) == ("positive", "negative")
    stored = json.dumps(world.rows(), default=str)
    assert stored.count("c|") == 1
    for name in ("Bob", "carl", "anna"):
        assert name not in stored
    assert world.services.corrections.count_pending() == 1


def test_a_right_answer_is_confirmed(world: World) -> None:
    """It is stored and never counts as an error."""
    answer = world.correct("positive").json()
    assert answer["kind"] == "confirmation"
    assert world.await_state(answer["id"], "accepted")["kind"] == "confirmation"
    assert world.services.corrections.count_pending() == 0


def test_a_token_that_fails_is_refused_by_name(world: World) -> None:
    """400, with the check that failed, and nothing on the queue."""
    token = world.predict()["prediction"]
    for body, code, pointer in (
        ({"prediction": "nonsense"}, "prediction-form", "/prediction"),
        ({"prediction": token[:-2] + "xx"}, "prediction-signature", "/prediction"),
        ({"prediction": "x" * 5000}, "prediction-size", "/prediction"),
        ({"text": "I hate it"}, "prediction-text", "/text"),
        ({"label": "sad"}, "invalid", "/label"),
        ({"comment": "x" * 501}, "invalid", "/comment"),
        ({"text": " "}, "text-blank", "/text"),
    ):
        reply = world.ask(
            "POST", "/api/feedback", {"prediction": token, "text": TEXT, "label": "neutral", **body}
        )
        assert reply.status == 400
        (fault,) = reply.json()["errors"]
        assert (fault["code"], fault["pointer"]) == (code, pointer)
    assert world.ask("POST", "/api/feedback", {"label": "neutral"}).status == 400
    assert world.rows() == []


def test_an_unknown_correction_is_404(world: World) -> None:
    """An id of ours that is still on its way is not."""
    reply = world.ask("GET", "/api/corrections/nobody-knows-it")
    assert reply.status == 404
    assert reply.json()["type"] == "urn:sentiment:problem:no-correction"
    assert world.ask("GET", "/api/corrections/a%7Cb").status == 404


def _message(id: str, **members: Any) -> str:
    message = {"schema": 1, "id": id, "text": f"tweet {id}", "predicted": "positive", "corrected": "negative"}
    message |= {
        "model_version": "v1",
        "source": "elsewhere",
        "user": "bob",
        "created_at": "2025-01-01T00:00:00Z",
    }
    return json.dumps(message | members)


def test_a_foreign_producer_needs_nothing_but_the_queue(world: World) -> None:
    """Each message once, however often it comes; what is invalid is quarantined and not tried again."""
    for _ in range(3):
        for number in range(4):
            world.send(_message(f"f{number}"))
    world.send("this is not JSON")
    world.send(_message("bad", corrected="sad", user="Carl", text="@dora"))
    until(lambda: len(world.rows("quarantine")) == 2, "the quarantine")
    for number in range(4):
        world.await_state(f"f{number}", "accepted" if number == 0 else "held")
    assert sum(row["RowKey"].startswith("c|") for row in world.rows()) == 4
    quarantined = json.dumps(world.rows("quarantine"), default=str)
    assert "this is not JSON" in quarantined
    assert "Carl" not in quarantined
    assert "dora" not in quarantined
    listed = world.run("quarantine", "list").stdout
    assert "not-json" in listed
    assert "invalid-member" in listed
    assert world.run("quarantine", "drop").returncode == 2
    assert world.run("quarantine", "drop", "--all").stdout == "2 messages dropped\n"
    with world.queue("-poison") as poison:
        assert poison.get_queue_properties().approximate_message_count == 0


def test_a_poisoned_message_is_listed_replayed_and_dropped(world: World) -> None:
    """Nothing rots unseen."""
    with world.queue("-poison") as poison:
        # One that its producer did not encode, which the platform cannot read.
        poison.send_message(_message("late"))
        poison.send_message(base64.b64encode(_message("hopeless").encode()).decode())
    listed = world.run("poison", "list").stdout.splitlines()
    assert len(listed) == 2
    (late,) = [line.split()[0] for line in listed if '"late"' in line]
    assert world.run("poison", "replay", late).stdout == "1 messages put on the queue again\n"
    world.await_state("late", "accepted")
    assert world.run("poison", "drop", "--all").stdout == "1 messages dropped\n"
    assert world.run("poison", "list").stdout == ""
    assert world.run("poison", "drop", late).returncode == 1


def test_what_storage_cannot_take_now_is_not_lost(world: World) -> None:
    """It fails, is tried again, lies in the poison queue, and can be replayed once storage is back."""
    connection = world.environ["AzureWebJobsStorage"]
    endpoint = next(part for part in connection.split(";") if part.startswith("TableEndpoint="))
    gone = connection.replace(endpoint, "TableEndpoint=http://127.0.0.1:9/devstoreaccount1")
    broken = Services(Settings.from_env({**world.environ, "AzureWebJobsStorage": gone}))
    with use_services(broken), world.queue("-poison") as poison:
        world.send(_message("unlucky"))
        until(lambda: poison.get_queue_properties().approximate_message_count == 1, "the poison message")
        assert world.ask("GET", "/api/corrections/unlucky").status == 503
    broken.close()
    assert world.rows() == []
    assert world.run("poison", "replay", "--all").returncode == 0
    world.await_state("unlucky", "accepted")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_file_is_sent_and_stored_once(world: World, tmp_path: Path, suffix: str) -> None:
    """Sent twice or interrupted, each row is one correction."""
    path = tmp_path / f"corrections{suffix}"
    rows = [("so, so bad @anna", "positive", "negative")] * 2 + [("fine", "negative", "neutral")]
    if suffix == ".jsonl":
        path.write_text(
            "".join(
                json.dumps(dict(zip(("text", "predicted", "label"), row, strict=True))) + "\n" for row in rows
            )
        )
    else:
        separator = "," if suffix == ".csv" else "\t"
        lines = ["text,predicted,corrected".replace(",", separator)]
        for text, *labels in rows:
            lines.append(separator.join([f'"{text}"' if suffix == ".csv" else text, *labels]))
        path.write_text("\n".join(lines) + "\n")
    for _ in range(2):
        done = world.run("send", str(path))
        assert "sent 3 corrections" in done.stdout, done.stderr
        assert "3 of 3" in done.stderr
    until(lambda: len(world.run("list").stdout.splitlines()) == 3, "the rows")
    with world.queue() as queue:
        until(lambda: queue.get_queue_properties().approximate_message_count == 0, "an empty queue")
    listed = world.run("list", "--state", "accepted", "--csv").stdout
    assert len(listed.splitlines()) == 4
    assert listed.count(",yes,") == 2
    assert "@anna" not in listed


def test_a_killed_run_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    """The note beside the file says where, and is gone at the end; of another file it says nothing."""
    path = tmp_path / "corrections.csv"
    path.write_text("text,predicted,corrected\na b,positive,negative\nc d,positive,neutral\n")
    note = tmp_path / "corrections.csv.sent"
    for digest, sent in ((hashlib.sha256(path.read_bytes()).hexdigest(), 1), ("of another", 2)):
        note.write_text(json.dumps({"sha256": digest, "sent": 1}))
        assert f"sent {sent} corrections" in world.run("send", str(path)).stdout
        assert not note.exists()


def test_a_faulty_file_is_refused_by_line(world: World, tmp_path: Path) -> None:
    """As a whole: nothing of it is sent."""
    path = tmp_path / "corrections.csv"
    path.write_text("text,predicted,corrected\nfine,positive,negative\nbad,positive,sad\n")
    done = world.run("send", str(path))
    assert done.returncode == 1
    assert "line 3" in done.stderr
    with world.queue() as queue:
        assert queue.get_queue_properties().approximate_message_count == 0


def test_a_person_is_erased_wherever_they_are(world: World) -> None:
    """Store, quarantine and poison queue; late messages stay out; and what cannot be erased is said."""
    world.send(_message("stored", user="Bob"))
    world.send(_message("refused", user="Bob", corrected="sad"))
    world.send(_message("other", user="Eve"))
    world.await_state("stored", "accepted")
    world.await_state("other", "accepted")
    until(lambda: world.rows("quarantine"), "the quarantine")
    with world.queue("-poison") as poison:
        poison.send_message(base64.b64encode(_message("failed", user="Bob").encode()).decode())
    reply = world.ask("DELETE", "/api/users/Bob")
    assert reply.status == 200
    erasure = reply.json()
    assert (erasure["corrections"], erasure["poison"], erasure["quarantined"]) == (1, 1, 1)
    assert erasure["remaining"]
    world.send(_message("late", user="Bob"))
    world.await_state("late", "erased")
    assert world.state("stored") == {"id": "stored", "state": "erased"}
    assert "tweet stored" not in json.dumps(world.rows(), default=str)
    assert world.state("other")["state"] == "accepted"
    done = world.run("erase", "--user", "Eve")
    assert "erased 1 stored corrections" in done.stdout
    assert "cannot be erased" in done.stdout


def test_predictions_are_counted_and_sampled(world: World) -> None:
    """Single ones and batches, by label; what fails is neither."""
    world.predict()
    documents = [{"id": str(number), "text": text} for number, text in enumerate(("I hate it", "a bus", " "))]
    assert world.ask("POST", "/api/predict", {"documents": documents}).status == 200
    now = datetime.now(UTC)
    counted = world.services.prediction_counts.counts(now, now)
    assert counted == {"tiny-1": {"negative": 1, "neutral": 1, "positive": 1}}
    until(lambda: len(list(world.services.samples.all())) == 3, "the samples")
    found = {sample.text: sample.predicted for sample in world.services.samples.all()}
    assert found == {"I love it @user": "positive", "I hate it": "negative", "a bus": "neutral"}


def test_samples_of_what_a_person_corrected_go_with_them(world: World) -> None:
    """Stored or still on the queue; what others only asked about stays."""
    for text in ("I love it @anna", "love on a bus", "I hate it"):
        world.predict(text)
    accepted = world.correct(user="Bob").json()
    world.await_state(accepted["id"], "accepted")
    # They are written in the background.
    until(lambda: len(list(world.services.samples.all())) == 3, "the samples")
    world.app.stop()
    world.send(_message("queued", text="love on a bus", user="Bob"))
    assert "2 sampled predictions" in world.run("erase", "--user", "Bob").stdout
    assert [sample.text for sample in world.services.samples.all()] == ["I hate it"]


def test_messages_that_nobody_has_read_yet_are_erased(world: World) -> None:
    """While the app is not running: the others stay on the queue."""
    world.app.stop()
    for id, user in (("one", "Bob"), ("two", "Eve"), ("three", "Bob")):
        world.send(_message(id, user=user))
    assert "2 messages on the queue" in world.run("erase", "--user", "Bob").stdout
    with world.queue() as queue:
        (left,) = [base64.b64decode(message.content) for message in queue.receive_messages()]
    assert b'"two"' in left
    tombstones = [row["RowKey"] for row in world.rows() if row["RowKey"].startswith("c|")]
    assert sorted(tombstones) == ["c|one", "c|three"]


def test_the_timer_takes_a_step_of_the_retraining_loop(world: World) -> None:
    """And leaves a record of it."""
    before = len(world.services.retrain_blobs.names("ticks/"))
    assert world.app.run_now("retrain_tick").status == 200
    assert len(world.services.retrain_blobs.names("ticks/")) == before + 1


OLD_TICK = "ticks/2020-01-01/000000.000000-0.json"
YOUNG_TICK = "ticks/2999-01-01/000000.000000-0.json"


def test_the_timer_applies_retention(world: World) -> None:
    """What is younger than it may be stays."""
    world.send(_message("young"))
    world.await_state("young", "accepted")
    blobs = world.services.retrain_blobs
    blobs.create_container()
    for name in (OLD_TICK, YOUNG_TICK):
        blobs.create(name, b"{}")
    assert world.app.run_now("apply_retention").status == 200
    assert world.state("young")["state"] == "accepted"
    assert OLD_TICK not in blobs.names("ticks/")
    assert YOUNG_TICK in blobs.names("ticks/")
