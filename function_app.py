"""The triggers, and nothing else: parse, one call, answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

import azure.functions as func
import msgspec

from sentiment import api, corrections, explanations, openapi, page, predictions, records
from sentiment.errors import SentimentError
from sentiment.records import ModelAnswer, Problem, StatusAnswer
from sentiment.retrain import ticks
from sentiment.retrain.wiring import retraining
from sentiment.services import get_services

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route(route="predict", methods=["POST"])
def predict(req: func.HttpRequest) -> func.HttpResponse:
    """Classify one text, or a batch of documents."""

    def answer() -> msgspec.Struct:
        request = api.read_predict_request(req.headers.get("Content-Type"), req.get_body())
        services = get_services()
        return predictions.answer(
            request,
            services.serving,
            services.signer,
            services.telemetry,
            services.prediction_counts,
            services.samples,
        )

    return _respond(answer)


@app.route(route="explain", methods=["POST"])
def explain(req: func.HttpRequest) -> func.HttpResponse:
    """Say which words of one text moved its label."""

    def answer() -> msgspec.Struct:
        request = api.read_explain_request(req.headers.get("Content-Type"), req.get_body())
        return explanations.answer(request, get_services().serving)

    return _respond(answer)


@app.route(route="model", methods=["GET"])
def model(req: func.HttpRequest) -> func.HttpResponse:
    """Say which model answers, how good it is, and how it came to serve."""

    def answer() -> msgspec.Struct:
        loaded = get_services().serving.current()
        return ModelAnswer(
            version=loaded.champion.version,
            sha256=loaded.champion.sha256,
            metrics=loaded.metrics,
            promoted_at=loaded.champion.promoted_at,
            by=loaded.champion.by,
            reason=loaded.champion.reason,
            previous=loaded.champion.previous,
            loaded_at=loaded.loaded_at.isoformat(timespec="seconds"),
        )

    return _respond(answer)


@app.route(route="feedback", methods=["POST"])
@app.queue_output(arg_name="message", queue_name="corrections", connection="AzureWebJobsStorage")
def feedback(req: func.HttpRequest, message: func.Out[str]) -> func.HttpResponse:
    """Accept what somebody says the label of a predicted text is, and put it on the queue."""

    def answer() -> msgspec.Struct:
        request = api.read_feedback_request(req.headers.get("Content-Type"), req.get_body())
        accepted, queued = corrections.accept(request, get_services())
        message.set(queued)
        return accepted

    return _respond(answer, status=202)


@app.queue_trigger(arg_name="message", queue_name="corrections", connection="AzureWebJobsStorage")
def store_correction(message: func.QueueMessage) -> None:
    """Store one correction exactly once; what can never be stored goes to the quarantine."""
    corrections.store(message.get_body(), message.insertion_time, get_services())


@app.route(route="corrections/{id}", methods=["GET"])
def correction(req: func.HttpRequest) -> func.HttpResponse:
    """Say what became of a correction."""
    return _respond(lambda: corrections.state(req.route_params["id"], get_services()))


@app.route(route="users/{user}", methods=["DELETE"])
def erase_user(req: func.HttpRequest) -> func.HttpResponse:
    """Erase what one person has said, wherever it is kept."""
    return _respond(lambda: corrections.erase(req.route_params["user"], get_services()))


@app.timer_trigger(arg_name="timer", schedule="0 30 3 * * *")
def apply_retention(timer: func.TimerRequest) -> None:
    """Erase, once a day, what is older than it may be."""
    services = get_services()
    corrections.apply_retention(services)
    ticks.prune(services.retrain_blobs)


@app.timer_trigger(arg_name="timer", schedule="%RETRAIN_SCHEDULE%")
def retrain_tick(timer: func.TimerRequest) -> None:
    """Take the next step of the retraining loop, if there is one."""
    retraining(get_services()).tick()


@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    """Say that the process is alive; asks nothing of anything else."""
    return _respond(lambda: StatusAnswer(status="alive"))


@app.route(route="ready", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def ready(req: func.HttpRequest) -> func.HttpResponse:
    """Say whether a model is loaded, loading it if this is the first request."""
    return _respond(
        lambda: StatusAnswer(status="ready", model_version=get_services().serving.current().champion.version)
    )


@app.route(route="openapi.json", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def openapi_document(req: func.HttpRequest) -> func.HttpResponse:
    """Describe this API as OpenAPI 3.1."""
    return func.HttpResponse(openapi.document(), mimetype="application/json")


@app.route(route="app", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def web(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the page."""
    return _page_file(req, page.PAGE)


@app.route(route="app/{name}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def web_file(req: func.HttpRequest) -> func.HttpResponse:
    """Serve a file of the page."""
    return _page_file(req, req.route_params["name"])


def _page_file(req: func.HttpRequest, name: str) -> func.HttpResponse:
    file = page.answer(name, req.url, req.headers.get("If-None-Match"))
    return func.HttpResponse(file.body, status_code=file.status, headers=file.headers)


def _respond(answer: Callable[[], msgspec.Struct], status: int = 200) -> func.HttpResponse:
    try:
        answered = answer()
        headers = {"Location": answered.location} if isinstance(answered, records.FeedbackAnswer) else {}
        return func.HttpResponse(
            msgspec.json.encode(answered), status_code=status, headers=headers, mimetype="application/json"
        )
    except SentimentError as error:
        return _problem(api.problem(error))
    except Exception:
        logging.getLogger(__name__).exception("a request could not be answered")
        return _problem(api.unexpected_problem())


def _problem(problem: Problem) -> func.HttpResponse:
    headers = {"Retry-After": str(api.RETRY_AFTER_SECONDS)} if problem.status == 503 else {}
    return func.HttpResponse(
        msgspec.json.encode(problem),
        status_code=problem.status,
        headers=headers,
        mimetype="application/problem+json",
    )
