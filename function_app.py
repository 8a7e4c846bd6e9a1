"""The triggers, and nothing else: parse, one call, answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

import azure.functions as func
import msgspec

from sentiment import api, openapi, predictions
from sentiment.errors import SentimentError
from sentiment.records import ModelAnswer, Problem, StatusAnswer
from sentiment.services import get_services

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route(route="predict", methods=["POST"])
def predict(req: func.HttpRequest) -> func.HttpResponse:
    """Classify one text, or a batch of documents."""

    def answer() -> msgspec.Struct:
        request = api.read_predict_request(req.headers.get("Content-Type"), req.get_body())
        services = get_services()
        return predictions.answer(request, services.serving, services.signer, services.telemetry)

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


def _respond(answer: Callable[[], msgspec.Struct]) -> func.HttpResponse:
    try:
        return func.HttpResponse(msgspec.json.encode(answer()), mimetype="application/json")
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
