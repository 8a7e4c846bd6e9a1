"""The OpenAPI document describes the app that is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import function_app
from sentiment import openapi


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(openapi.document())
    return loaded


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    """Generators of clients accept it."""
    OpenAPIV31SpecValidator(document).validate()


@pytest.fixture(scope="module")
def routes() -> list[dict[str, Any]]:
    """The HTTP triggers of the app, as the host is told them; an app can be asked only once."""
    triggers = [function.get_trigger() for function in function_app.app.get_functions()]
    return [trigger.get_dict_repr() for trigger in triggers if trigger and trigger.type == "httpTrigger"]


def test_the_document_has_every_route_and_no_other(
    document: dict[str, Any], routes: list[dict[str, Any]]
) -> None:
    """Neither side may run ahead of the other."""
    served = {(f"/{route['route']}", method.value.lower()) for route in routes for method in route["methods"]}
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == served


def test_open_routes_ask_for_no_key(document: dict[str, Any], routes: list[dict[str, Any]]) -> None:
    """Authorisation is described as it is enforced."""
    for route in routes:
        for operation in document["paths"][f"/{route['route']}"].values():
            assert (operation.get("security") == []) == (route["authLevel"].name == "ANONYMOUS")
