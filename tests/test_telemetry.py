"""What the app tells Application Insights, through the real sender to a real server on loopback."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localhost.azurite import Azurite
from localhost.ingestion import IngestionServer, Mode
from sentiment import predictions
from sentiment.api import Batch
from sentiment.feedback import PredictionSigner
from sentiment.ingestion import Limits
from sentiment.manifest import ONNX
from sentiment.records import BatchAnswer, Document, Prediction, Scores, TextAnswer, TextRequest
from sentiment.services import Services
from sentiment.settings import Ingestion, Settings
from sentiment.telemetry import Telemetry, operation_id, operation_id_of_correction
from tests.models import make_model_folder, seal
from tests.stage import until

ROOT = Path(__file__).parent.parent
QUICK = Limits(every=0.05, pause=0.02, longest_pause=0.1, timeout=0.5)
KEY = "00000000-0000-0000-0000-000000000000"
SIGNER = PredictionSigner(["not-a-secret-in-tests"])
SCORES = Scores(0.1, 0.2, 0.7)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IngestionServer]:
    with IngestionServer(tmp_path / "telemetry") as running:
        yield running


def _telemetry(server: IngestionServer, **options: Any) -> Telemetry:
    return Telemetry(Ingestion(KEY, f"http://127.0.0.1:{server.port}"), limits=QUICK, **options)


def _fields(envelope: dict[str, Any]) -> dict[str, dict[str, Any]]:
    data = envelope["data"]["baseData"]
    return {"property": data.get("properties", {}), "measurement": data.get("measurements", {})}


def _named(server: IngestionServer, name: str) -> list[dict[str, Any]]:
    """Return the envelopes of one event, or of one metric."""
    return [
        envelope
        for envelope in server.events()
        if name in (envelope["data"]["baseData"].get("name"), *_metrics(envelope))
    ]


def _metrics(envelope: dict[str, Any]) -> list[str]:
    return [metric["name"] for metric in envelope["data"]["baseData"].get("metrics", ())]


def _answer(number: int) -> TextAnswer:
    """Return one of many different answers."""
    prediction = Prediction("positive", SCORES, False)
    token = SIGNER.sign(str(number), prediction, "tiny-1")
    return TextAnswer(
        label="positive", scores=SCORES, truncated=False, prediction=token, model_version="tiny-1"
    )


def _tell_everything(telemetry: Telemetry) -> None:
    """Send each event twice: with everything it may say, and with as little as it must."""
    telemetry.predictions([_answer(1)], "tiny-1", 0.01)
    common = {"predicted": "positive", "corrected": "negative", "model_version": "tiny-1", "source": "page"}
    telemetry.correction(**common, text="love", confidence=0.7, operation_id="1" * 32)  # type: ignore[arg-type]
    telemetry.correction(**common, text="love")  # type: ignore[arg-type]
    telemetry.poison_message(queue="corrections", reason="not JSON", message_id="1")
    telemetry.poison_message(queue="corrections", reason="not JSON")
    telemetry.model_loaded(version="tiny-2", sha256="0" * 64, replaced="tiny-1", seconds=0.5)
    telemetry.model_loaded(version="tiny-1", sha256="0" * 64, replaced=None, seconds=0.5)
    telemetry.model_refused(version="tiny-3", sha256="0" * 64, reason="was altered", serving="tiny-2")
    telemetry.model_refused(version="tiny-3", sha256="0" * 64, reason="was altered", serving=None)
    telemetry.model_rolled_back(version="tiny-2", to="tiny-1", by="watch", reason="is corrected more often")
    telemetry.retrain_tick(
        phase="running", cycle=1, decision="200 of 200", did="started", error="timeout", accepted_errors=200
    )
    telemetry.retrain_tick(phase=None, cycle=0, decision="", did="", error="", accepted_errors=None)


def _table(name: str) -> list[list[str]]:
    """Return the rows of one table of docs/telemetry.md, without backquotes."""
    page = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    found = re.search(f"<!-- {name}:start -->\n(.*?)<!-- {name}:end -->", page, re.DOTALL)
    assert found, f"docs/telemetry.md has no table {name}"
    rows = [line.strip("|").split("|") for line in found[1].splitlines()[2:]]
    return [[cell.strip().replace("`", "") for cell in row] for row in rows]


def test_every_event_is_in_the_documentation_with_exactly_its_fields(server: IngestionServer) -> None:
    """What is documented is sent, what is sent is documented, and only what is optional is ever left out."""
    telemetry = _telemetry(server, text=True)
    _tell_everything(telemetry)
    telemetry.close()
    sent: dict[tuple[str, str, str], list[bool]] = {}
    events = [envelope for envelope in server.events() if "name" in envelope["data"]["baseData"]]
    fields_of: dict[str, list[set[tuple[str, str]]]] = {}
    for envelope in events:
        told = {(field, kind) for kind, fields in _fields(envelope).items() for field in fields}
        fields_of.setdefault(envelope["data"]["baseData"]["name"], []).append(told)
    for name, seen in fields_of.items():
        for field, kind in set.union(*seen):
            sent[name, field, kind] = [(field, kind) in told for told in seen]
    documented = {(row[0], row[1], row[2].split(",")[0]): "optional" in row[2] for row in _table("events")}
    assert documented.keys() == sent.keys()
    # The text is optional by a setting, which is on here.
    left_out = {key for key, seen in sent.items() if not all(seen)} | {("Correction", "text", "property")}
    assert {key for key, optional in documented.items() if optional} == left_out


def test_every_metric_is_in_the_documentation(server: IngestionServer) -> None:
    """Also that of losses, which is told when there were some."""
    telemetry = Telemetry(
        Ingestion(KEY, f"http://127.0.0.1:{server.port}"), limits=Limits(every=60.0, capacity=1)
    )
    _tell_everything(telemetry)
    telemetry.close()
    sent = {
        (name, field)
        for envelope in server.events()
        for name in _metrics(envelope)
        for field in _fields(envelope)["property"]
    }
    assert {(row[0], row[1]) for row in _table("metrics")} == sent


def test_the_queries_use_only_what_is_documented() -> None:
    """A field that was renamed would make a query answer nothing, silently."""
    queries = (ROOT / "docs" / "queries.kql").read_text(encoding="utf-8")
    events, metrics = _table("events"), _table("metrics")
    for kind, column in (("property", "Dimensions"), ("measurement", "Measurements")):
        known = {row[1] for row in events if row[2].startswith(kind)}
        known |= {row[1] for row in metrics} if kind == "property" else set()
        used = set(re.findall(rf"custom{column}\.(\w+)", queries))
        assert used
        assert used <= known, f"{used - known} is not in docs/telemetry.md"
    names = set(re.findall(r'name == "(\w+)"', queries))
    for group in re.findall(r"name in \(([^)]*)\)", queries):
        names |= set(re.findall(r'"(\w+)"', group))
    assert {"Prediction", "Correction"} <= names
    assert names <= {row[0] for row in events} | {row[0] for row in metrics}


def test_a_prediction_and_its_correction_share_an_operation(server: IngestionServer) -> None:
    """Both sides compute it from the token; nothing is stored."""
    telemetry = _telemetry(server)
    answer = _answer(1)
    telemetry.predictions([answer], "tiny-1", 0.01)
    telemetry.correction(
        predicted="positive",
        corrected="negative",
        model_version="tiny-1",
        source="page",
        text="love",
        operation_id=operation_id(answer.prediction),
    )
    telemetry.close()
    (predicted,), (corrected,) = _named(server, "Prediction"), _named(server, "Correction")
    assert predicted["tags"] == corrected["tags"] == {"ai.operation.id": operation_id(answer.prediction)}
    assert operation_id(_answer(2).prediction) != operation_id(answer.prediction)
    assert re.fullmatch("[0-9a-f]{32}", operation_id(answer.prediction))


def test_the_id_of_a_correction_leads_back_to_its_prediction() -> None:
    """Made from a token it carries the operation; made by another system it does not."""
    operation = operation_id(_answer(1).prediction)
    assert operation_id_of_correction(f"fb-{operation}-negative-0123456789ab") == operation
    for other in ("batch-1", "", f"fb-{operation[1:]}-negative-0", operation):
        assert operation_id_of_correction(other) is None


@pytest.mark.parametrize("text", [False, True])
def test_texts_leave_only_when_asked_for(server: IngestionServer, text: bool) -> None:
    """And then without mentions and links; names of the machine never do."""
    telemetry = _telemetry(server, text=text)
    telemetry.correction(
        predicted="positive",
        corrected="negative",
        model_version="tiny-1",
        source="page",
        text="love you @alice https://example.org/x",
    )
    telemetry.close()
    (envelope,) = server.events()
    assert _fields(envelope)["property"].get("text") == ("love you @user http" if text else None)
    assert "alice" not in str(envelope)
    assert "example.org" not in str(envelope)
    assert "tags" not in envelope


@pytest.mark.parametrize("sampling", [0.0, 0.25, 1.0])
def test_a_part_of_the_predictions_becomes_events(server: IngestionServer, sampling: float) -> None:
    """The same ones each time, each counted as several; metrics and corrections know of all."""
    answers = [_answer(number) for number in range(800)]
    chosen = []
    for _ in range(2):
        telemetry = _telemetry(server, sampling=sampling)
        before = len(_named(server, "Prediction"))
        telemetry.predictions(answers, "tiny-1", 0.01)
        telemetry.close()
        found = _named(server, "Prediction")[before:]
        chosen.append([envelope["tags"]["ai.operation.id"] for envelope in found])
        assert {envelope["sampleRate"] for envelope in found} <= {100.0 * sampling}
    assert chosen[0] == chosen[1]
    assert abs(len(chosen[0]) - 800 * sampling) < 800 * 0.1
    (first, _) = _named(server, "PredictBatchSize")
    assert [m["value"] for m in first["data"]["baseData"]["metrics"]] == [800.0]


def test_without_a_connection_string_nothing_happens() -> None:
    """No thread, no library, no connection: it costs nothing."""
    program = (
        "import sys, threading\n"
        "from sentiment.telemetry import Telemetry\n"
        "telemetry = Telemetry(None)\n"
        "telemetry.correction(predicted='positive', corrected='negative', model_version='1', source='page',"
        " text='love')\n"
        "telemetry.model_loaded(version='1', sha256='0', replaced=None, seconds=1.0)\n"
        "telemetry.close()\n"
        "loaded = 'applicationinsights' in sys.modules\n"
        "print(telemetry.on, telemetry.dropped, threading.active_count(), loaded)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "{}", "1", "False"]


def test_the_library_gives_no_warnings(server: IngestionServer) -> None:
    """Its client would: it asks for the locale in a way that Python gives up."""
    program = (
        "from sentiment.telemetry import Telemetry\n"
        "from sentiment.settings import Ingestion\n"
        f"telemetry = Telemetry(Ingestion('{KEY}', 'http://127.0.0.1:{server.port}'))\n"
        "telemetry.model_loaded(version='1', sha256='0', replaced=None, seconds=1.0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert len(_named(server, "ModelLoaded")) == 1


# --- through the services ---------------------------------------------------


@pytest.fixture
def services(azurite: Azurite, tmp_path: Path, server: IngestionServer) -> Iterator[Services]:
    """The product, built from settings that lead to the server."""
    services = Services(
        Settings.from_env(
            {
                "AzureWebJobsStorage": azurite.connection_string,
                "FEEDBACK_SIGNING_KEYS": "not-a-secret-in-tests",
                "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
                "MODEL_CONTAINER": f"t{abs(hash(tmp_path))}",
                "MODEL_REFRESH_SECONDS": "0.05",
                "PREDICT_THREADS": "1",
                "APPLICATIONINSIGHTS_CONNECTION_STRING": server.connection_string,
            }
        )
    )
    yield services
    services.close()


def test_requests_and_models_are_told_of(services: Services, server: IngestionServer, tmp_path: Path) -> None:
    """From settings alone: a model is loaded, a text and a batch are answered, a bad version is refused."""
    services.registry.publish(make_model_folder(tmp_path / "good", "good", "positive"))
    services.registry.promote("good", by="test", reason="to see")
    one = predictions.answer(
        TextRequest("nothing it knows"), services.serving, services.signer, services.telemetry
    )
    documents = [Document("a", "love"), Document("b", "hate")]
    many = predictions.answer(Batch(documents, []), services.serving, services.signer, services.telemetry)
    bad = make_model_folder(tmp_path / "bad", "bad")
    (bad / ONNX).write_bytes(b"no graph")
    services.registry.publish(seal(bad, "bad"))
    services.registry.promote("bad", by="test", reason="to see")
    until(lambda: bool(_named(server, "ModelRefused")), "the bad version to be refused")
    services.close()

    (loaded,), (refused,) = _named(server, "ModelLoaded"), _named(server, "ModelRefused")
    assert _fields(loaded)["property"]["model_version"] == "good"
    assert _fields(refused)["property"]["model_version"] == "bad"
    assert _fields(refused)["property"]["serving"] == "good"
    assert isinstance(one, TextAnswer)
    assert isinstance(many, BatchAnswer)
    told = {
        envelope["tags"]["ai.operation.id"]: _fields(envelope) for envelope in _named(server, "Prediction")
    }
    assert told.keys() == {operation_id(answer.prediction) for answer in (one, *many.documents)}
    of_one = told[operation_id(one.prediction)]
    assert of_one["property"] == {"label": "positive", "model_version": "good", "truncated": "false"}
    assert of_one["measurement"] == {"confidence": pytest.approx(one.scores.positive)}
    figures = _observed(server)
    assert figures["PredictBatchSize"] == (2, 3.0)
    assert figures["PredictLatencyMs"][0] == 2
    assert figures["ModelLoadSeconds"][0] == 1
    assert "nothing it knows" not in str(server.events())


def _observed(server: IngestionServer) -> dict[str, tuple[int, float]]:
    """Return count and sum of each metric, over all that was sent."""
    found: dict[str, tuple[int, float]] = {}
    for envelope in server.events():
        for metric in envelope["data"]["baseData"].get("metrics", ()):
            count, total = found.get(metric["name"], (0, 0.0))
            found[metric["name"]] = (count + metric["count"], total + metric["value"])
    return found


def test_answers_do_not_depend_on_telemetry(
    services: Services, server: IngestionServer, tmp_path: Path
) -> None:
    """Nobody listens there any more: the answer is the same, and closing does not wait."""
    services.registry.publish(make_model_folder(tmp_path / "good", "good", "positive"))
    services.registry.promote("good", by="test", reason="to see")
    server.mode = Mode.REFUSE
    answer = predictions.answer(TextRequest("love"), services.serving, services.signer, services.telemetry)
    assert isinstance(answer, TextAnswer)
    assert answer.label == "positive"
    telemetry = services.telemetry
    services.close()
    assert sum(telemetry.dropped.values()) > 0
