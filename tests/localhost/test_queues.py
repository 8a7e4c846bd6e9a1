"""Queue triggers and outputs on real storage."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable

import pytest
from azure.storage.queue import QueueClient

from tests.localhost.apps import ServedApp, until

Serve = Callable[..., ServedApp]

FAST = {"extensions": {"queues": {"maxPollingInterval": "00:00:00.200", "maxDequeueCount": 2}}}


def _texts(queue: QueueClient) -> list[str]:
    return [message.content for message in queue.receive_messages(visibility_timeout=60)]


def _is_empty(queue: QueueClient) -> bool:
    return queue.get_queue_properties().approximate_message_count == 0


def test_a_message_reaches_its_function_and_is_gone(serve: Serve) -> None:
    """With its body decoded and what storage knows of it."""
    app = serve(
        """
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage")
def work(msg: func.QueueMessage) -> None:
    seen.append((msg.id, msg.get_body(), msg.get_json(), msg.dequeue_count,
                 msg.insertion_time, msg.expiration_time, msg.pop_receipt))
""",
        FAST,
    )
    with app.queue("JOBS") as queue:
        sent = queue.send_message(json.dumps({"text": "schön"}))
        ((message_id, body, document, count, inserted, expires, receipt),) = until(
            lambda: app.seen, "the run"
        )
        assert message_id == sent.id
        assert body.decode() == json.dumps({"text": "schön"})
        assert document == {"text": "schön"}
        assert count == 1
        assert inserted == sent.inserted_on
        assert expires == sent.expires_on
        assert receipt
        until(lambda: _is_empty(queue), "the message to be deleted")
    assert len(app.seen) == 1


OUTPUTS = """
import typing
@app.route(route="put")
@app.queue_output(arg_name="out", queue_name="%JOBS%", connection="AzureWebJobsStorage")
def put(req: func.HttpRequest, out: func.Out[str]) -> str:
    out.set(req.get_body().decode())
    return "put"
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="$return", queue_name="%DONE%", connection="AzureWebJobsStorage")
def upper(msg: str) -> str:
    return msg.upper()
@app.route(route="many")
@app.queue_output(arg_name="out", queue_name="%DONE%", connection="AzureWebJobsStorage")
def many(req, out: func.Out[typing.List[str]]) -> str:
    out.set(["one", "two"])
    return "put"
@app.route(route="none")
@app.queue_output(arg_name="out", queue_name="%DONE%", connection="AzureWebJobsStorage")
def none(req, out: func.Out[str]) -> str:
    return "nothing put"
@app.route(route="wrong")
@app.queue_output(arg_name="out", queue_name="%DONE%", connection="AzureWebJobsStorage")
def wrong(req, out: func.Out[typing.List[str]]) -> str:
    out.set([object()])
    return "put"
"""


def test_outputs_go_to_their_queue_and_trigger_what_waits_there(serve: Serve) -> None:
    """HTTP to queue to function to queue, base64 all the way; a list is several messages."""
    app = serve(OUTPUTS, {"extensions": {"queues": {"maxPollingInterval": "00:05:00"}}})
    with app.queue("DONE") as done:
        assert app.request("POST", "/api/put", body="ünï".encode()).body == b"put"
        # The listener backs off for minutes by now, unless the output wakes it.
        assert until(lambda: _texts(done), "the second queue's message") == ["ÜNÏ"]
        assert app.get("/api/none").status == 200
        assert app.get("/api/wrong").status == 500
        assert app.get("/api/many").status == 200
        assert sorted(until(lambda: _texts(done), "the list's messages")) == ["one", "two"]


FAILING = """
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage")
def work(msg: func.QueueMessage) -> None:
    seen.append(msg.dequeue_count)
    if msg.get_body() != b"second time lucky" or msg.dequeue_count == 1:
        raise RuntimeError("cannot do it")
"""


def test_what_keeps_failing_goes_to_the_poison_queue(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """After maxDequeueCount runs, unchanged, and the log says so."""
    app = serve(FAILING, FAST)
    with app.queue("JOBS") as queue, app.queue("JOBS", "-poison") as poison:
        queue.send_message("hopeless")
        until(lambda: app.seen == [1, 2], "both attempts")
        until(lambda: "went to" in caplog.text, "the move to be logged")
        assert until(lambda: _texts(poison), "the poison message") == ["hopeless"]
        assert _is_empty(queue)
    assert app.seen == [1, 2]
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 2


def test_what_fails_for_once_is_tried_again(serve: Serve) -> None:
    """A passing cause costs one attempt, not the message."""
    app = serve(FAILING, FAST)
    with app.queue("JOBS") as queue:
        queue.send_message("second time lucky")
        until(lambda: _is_empty(queue), "the message to be done")
    assert app.seen == [1, 2]


def test_what_is_not_base64_goes_to_the_poison_queue_as_it_came(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The commonest mistake of senders; the function never runs, and the log names the fix."""
    app = serve(FAILING, FAST)
    with app.queue("JOBS", encoded=False) as queue, app.queue("JOBS", "-poison", encoded=False) as poison:
        queue.send_message("plain text!")
        until(lambda: "went to" in caplog.text, "the move to be logged")
        assert until(lambda: _texts(poison), "the poison message") == ["plain text!"]
    assert app.seen == []
    assert "TextBase64EncodePolicy" in caplog.text


def test_without_encoding_text_is_taken_as_it_is(serve: Serve) -> None:
    """`messageEncoding` none, and a bytes parameter."""
    app = serve(
        """
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage", data_type="BINARY")
def work(msg: bytes) -> None: seen.append(msg)
@app.route(route="put")
@app.queue_output(arg_name="out", queue_name="%DONE%", connection="AzureWebJobsStorage")
def put(req, out: func.Out[bytes]) -> str:
    out.set(b"bytes")
    return "put"
""",
        {"extensions": {"queues": {"maxPollingInterval": "00:00:00.200", "messageEncoding": "none"}}},
    )
    with app.queue("JOBS", encoded=False) as queue, app.queue("DONE", encoded=False) as done:
        queue.send_message(base64.b64encode(b"looks encoded").decode())
        assert until(lambda: app.seen, "the run") == [base64.b64encode(b"looks encoded")]
        app.get("/api/put")
        assert until(lambda: _texts(done), "the output") == ["bytes"]


def test_no_more_messages_run_at_once_than_the_batch_allows(serve: Serve) -> None:
    """batchSize 2 and newBatchThreshold 0: two at a time."""
    app = serve(
        """
import threading, time
lock, under_way = threading.Lock(), []
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage")
def work(msg: str) -> None:
    with lock:
        under_way.append(msg)
        seen.append(len(under_way))
    threading.Event().wait(0.05)
    with lock:
        under_way.remove(msg)
""",
        {
            "extensions": {
                "queues": {"maxPollingInterval": "00:00:00.200", "batchSize": 2, "newBatchThreshold": 0}
            }
        },
        PYTHON_THREADPOOL_THREAD_COUNT="8",
    )
    with app.queue("JOBS") as queue:
        for number in range(8):
            queue.send_message(str(number))
        until(lambda: len(app.seen) == 8 and _is_empty(queue), "all eight")
    assert max(app.seen) == 2


def test_a_message_whose_function_does_not_finish_is_given_back(serve: Serve) -> None:
    """The next start finds it at once, not in ten minutes."""
    source = """
import threading
go = threading.Event()
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage")
def work(msg: func.QueueMessage) -> None:
    seen.append(msg.get_body())
    go.wait(20)
"""
    app = serve(source, FAST, grace_seconds=0.3)
    with app.queue("JOBS") as queue:
        queue.send_message("take your time")
        until(lambda: app.seen, "the run")
        app.stop()
        assert app.unfinished == ["work"]
        assert _texts(queue) == ["take your time"]
    app.module.go.set()


def test_a_queue_that_is_missing_is_waited_for(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A trigger's queue may come later; nothing is logged as an error meanwhile."""
    app = serve(
        """
@app.queue_trigger(arg_name="msg", queue_name="later-%JOBS%", connection="AzureWebJobsStorage")
def work(msg: str) -> None: seen.append(msg)
""",
        FAST,
    )
    app.environ["LATER"] = f"later-{app.environ['JOBS']}"
    with app.queue("LATER") as queue:
        queue.create_queue()
        queue.send_message("at last")
        assert until(lambda: app.seen, "the run") == ["at last"]
    ours = [record for record in caplog.records if record.name.startswith("localhost")]
    assert not [record for record in ours if record.levelno >= logging.WARNING]
