"""The OpenAPI 3.1 document, generated from the records that validate."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from sentiment.records import (
    BatchAnswer,
    BatchRequest,
    CorrectionAnswer,
    Erasure,
    ExplanationAnswer,
    FeedbackAnswer,
    FeedbackRequest,
    ModelAnswer,
    Problem,
    StatusAnswer,
    TextAnswer,
    TextRequest,
)
from sentiment.text import MAX_TEXT_CHARACTERS

_JSON = "application/json"
_PROBLEM_JSON = "application/problem+json"
_REF = "#/components/schemas/{name}"

_PROBLEMS = {
    400: "The request cannot be answered; `errors` names each place.",
    404: "There is none.",
    413: "The body has more than 1 MiB.",
    415: "The body is not declared as JSON in UTF-8.",
    500: "A defect or a misconfiguration of the service.",
    503: "No model to answer with, or storage does not answer; try again after `Retry-After` seconds.",
}


@cache
def document() -> bytes:
    """Return the document as JSON."""
    records = [
        TextRequest,
        BatchRequest,
        TextAnswer,
        BatchAnswer,
        ExplanationAnswer,
        ModelAnswer,
        StatusAnswer,
        Problem,
        FeedbackRequest,
        FeedbackAnswer,
        CorrectionAnswer,
        Erasure,
    ]
    references, components = msgspec.json.schema_components(records, ref_template=_REF)
    schema = {record.__name__: reference for record, reference in zip(records, references, strict=True)}
    for name in ("TextRequest", "Document", "FeedbackRequest"):
        components[name]["properties"]["text"] |= {"minLength": 1, "maxLength": MAX_TEXT_CHARACTERS}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Tweet sentiment",
                "version": "1",
                "description": "Classifies tweets as negative, neutral or positive.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/api"}],
            "security": [{"functionKey": []}, {"functionKeyInQuery": []}],
            "paths": {
                "/predict": {"post": _predict(schema)},
                "/explain": {"post": _explain(schema)},
                "/model": {
                    "get": _get("getModel", "The model that answers", schema["ModelAnswer"], (500, 503))
                },
                "/feedback": {"post": _feedback(schema)},
                "/corrections/{id}": {
                    "get": _get(
                        "getCorrection",
                        "What became of a correction",
                        schema["CorrectionAnswer"],
                        (404, 500, 503),
                    )
                    | {"parameters": [_parameter("id", "As answered by `POST /feedback`.")]}
                },
                "/users/{user}": {
                    "delete": _get(
                        "eraseUser", "Erase what one person has said", schema["Erasure"], (500, 503)
                    )
                    | {"parameters": [_parameter("user", "As given in `user` with the feedback.")]}
                },
                "/health": {"get": _open("getHealth", "Is the process alive?", schema["StatusAnswer"], ())},
                "/ready": {
                    "get": _open("getReady", "Is a model loaded?", schema["StatusAnswer"], (500, 503))
                },
                "/app": {"get": _page_file("getPage", "The page for people", "text/html", ())},
                "/app/{name}": {
                    "get": _page_file("getPageFile", "A file of the page", "*/*", (404,))
                    | {
                        "parameters": [
                            {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
                        ]
                    }
                },
                "/openapi.json": {"get": _open("getOpenApi", "This document", {"type": "object"}, ())},
            },
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "functionKey": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                    "functionKeyInQuery": {"type": "apiKey", "in": "query", "name": "code"},
                },
            },
        }
    )


def _predict(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Classify one tweet or a batch",
        "description": "In a batch each document fails on its own: it is in `documents` or in `errors`.",
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {
                    "schema": {"oneOf": [schema["TextRequest"], schema["BatchRequest"]]},
                    "examples": {
                        "one": {"value": {"text": "I love how this turned out!"}},
                        "several": {"value": {"documents": [{"id": "1", "text": "Worst flight ever."}]}},
                    },
                }
            },
        },
        "responses": _responses(
            {"oneOf": [schema["TextAnswer"], schema["BatchAnswer"]]}, (400, 413, 415, 500, 503)
        )
        | {"401": {"description": "The function key is missing or wrong."}},
    }


def _feedback(schema: dict[str, Any]) -> dict[str, Any]:
    responses = _responses(schema["FeedbackAnswer"], (400, 413, 415, 500, 503))
    accepted = responses.pop("200") | {
        "headers": {"Location": {"description": "Where its state can be read.", "schema": {"type": "string"}}}
    }
    return {
        "operationId": "sendFeedback",
        "summary": "Correct or confirm a prediction",
        "description": "The same token and label make the same correction, however often they are sent.",
        "requestBody": {"required": True, "content": {_JSON: {"schema": schema["FeedbackRequest"]}}},
        "responses": {"202": accepted}
        | responses
        | {"401": {"description": "The function key is missing or wrong."}},
    }


def _explain(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": "explain",
        "summary": "Say which words of a tweet moved its label",
        "description": "Each word is left out once (occlusion); its weight is what the label loses.",
        "requestBody": {"required": True, "content": {_JSON: {"schema": schema["TextRequest"]}}},
        "responses": _responses(schema["ExplanationAnswer"], (400, 413, 415, 500, 503))
        | {"401": {"description": "The function key is missing or wrong."}},
    }


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }


def _page_file(operation: str, summary: str, media_type: str, others: tuple[int, ...]) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "security": [],
        "responses": {
            "200": {"description": "The file.", "content": {media_type: {"schema": {"type": "string"}}}},
            "304": {"description": "The file of `If-None-Match`."},
        }
        | {str(status): {"description": "There is no such file."} for status in others},
    }


def _get(operation: str, summary: str, answer: dict[str, Any], problems: tuple[int, ...]) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": _responses(answer, problems)
        | {"401": {"description": "The function key is missing or wrong."}},
    }


def _open(operation: str, summary: str, answer: dict[str, Any], problems: tuple[int, ...]) -> dict[str, Any]:
    """Describe an operation that needs no key."""
    return {
        "operationId": operation,
        "summary": summary,
        "security": [],
        "responses": _responses(answer, problems),
    }


def _responses(answer: dict[str, Any], problems: tuple[int, ...]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": "The answer.", "content": {_JSON: {"schema": answer}}}
    }
    for status in problems:
        responses[str(status)] = {
            "description": _PROBLEMS[status],
            "content": {_PROBLEM_JSON: {"schema": {"$ref": _REF.format(name="Problem")}}},
        }
    return responses
