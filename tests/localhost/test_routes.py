"""Route templates and their order."""

from __future__ import annotations

import pytest

from localhost.routes import Route, Router, compile_template


def _route(function: str, template: str, *methods: str) -> Route:
    return Route(function, compile_template(template), frozenset(methods))


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/predict", "api/predict", {}),
        ("api/predict", "API/Predict/", {}),
        ("api/predict", "api/predict/x", None),
        ("api/predict", "api%2Fpredict", None),
        ("api/items/{id}", "api/items/7", {"id": "7"}),
        ("api/items/{id}", "api/items/a%20b%2Fc", {"id": "a b%2Fc"}),
        ("api/items/{id}", "api/items", None),
        ("api/items/{id?}", "api/items", {}),
        ("api/items/{id?}", "api/items/7", {"id": "7"}),
        ("api/items/{id=first}", "api/items", {"id": "first"}),
        ("api/{n:int}", "api/-12", {"n": "-12"}),
        ("api/{n:int}", "api/2147483648", None),
        ("api/{n:int}", "api/x", None),
        ("api/{n:long}", "api/2147483648", {"n": "2147483648"}),
        ("api/{n:int:min(5)}", "api/4", None),
        ("api/{n:range(1,5)}", "api/5", {"n": "5"}),
        ("api/{b:bool}", "api/True", {"b": "True"}),
        ("api/{g:guid}", "api/not-a-guid", None),
        ("api/{w:alpha:maxlength(3)}", "api/abcd", None),
        ("api/{w:length(2)}", "api/ab", {"w": "ab"}),
        ("api/{s:regex(^a.*z$)}", "api/abcz", {"s": "abcz"}),
        ("api/{s:regex(^\\d{{2}}$)}", "api/123", None),
        ("api/{d:datetime}", "api/2024-05-01", {"d": "2024-05-01"}),
        ("api/v{major:int}.{minor:int}", "api/v1.2", {"major": "1", "minor": "2"}),
        ("api/{*rest}", "api/a/b/c", {"rest": "a/b/c"}),
        ("api/{*rest}", "api", {}),
        ("", "", {}),
    ],
)
def test_templates(template: str, path: str, expected: dict[str, str] | None) -> None:
    """A path fits a template, or not, as in ASP.NET Core's routing."""
    assert compile_template(template).match(path) == expected
    assert (Router([_route("f", template)]).find("GET", path) is None) == (expected is None)


@pytest.mark.parametrize(
    "template", ["a//b", "a/{b", "a}/b", "{1x}", "{a}/{a}", "{n:prime}", "a?b", "{n:length(x)}"]
)
def test_malformed_templates_are_refused(template: str) -> None:
    """What ASP.NET Core refuses is refused."""
    with pytest.raises(ValueError, match="has"):
        compile_template(template)


def test_functions_are_tried_in_the_order_of_their_names() -> None:
    """The platform does not put literal routes first."""
    router = Router([_route("zoo", "api/items/first"), _route("any_item", "api/items/{id}")])
    found = router.find("GET", "api/items/first")
    assert found is not None
    assert found[0].function == "any_item"
    assert [(hidden.function, by.function) for hidden, by in router.hidden()] == [("zoo", "any_item")]


def test_the_method_is_part_of_the_route() -> None:
    """Two functions may share a path; a method that none takes finds nothing."""
    router = Router(
        [_route("a", "api/x", "GET"), _route("b", "api/x", "POST"), _route("c", "api/{y}", "PUT")]
    )
    assert [
        found and found[0].function for found in (router.find(m, "api/x") for m in ("GET", "POST", "PUT"))
    ] == [*("a", "b", "c")]
    assert router.find("DELETE", "api/x") is None
    assert not list(router.hidden())


@pytest.mark.parametrize(
    ("earlier", "later", "hidden"),
    [
        ("api/{id}", "api/predict", True),
        ("api/{id:int}", "api/predict", False),
        ("api/{id:int}", "api/7", True),
        ("api/{a}/{b}", "api/{c}/x", True),
        ("api/predict", "api/{id}", False),
        ("api/predict", "API/predict", True),
        ("api/{*rest}", "api/a/b", True),
        ("api/{id?}", "api", True),
        ("api/{n:int}", "api/{m:int}", True),
    ],
)
def test_routes_that_are_never_reached_are_found(earlier: str, later: str, hidden: bool) -> None:
    """A later function whose requests an earlier one takes is named."""
    assert bool(list(Router([_route("a", earlier), _route("b", later)]).hidden())) is hidden
