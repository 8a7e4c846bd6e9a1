"""Route templates, matched as the platform matches them.

Literals ignore case; a parameter takes one segment, `{name?}` may be absent,
`{*rest}` takes what is left, `{n:int}` and the like restrict the value. The
method belongs to the route: where no route takes a path *and* a method, the
platform answers 404, not 405.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

_PARAMETER = re.compile(
    r"\{(\*{0,2})([^{}:=?]+)((?::(?:[^{}()=?]+|\((?:[^()]|\([^()]*\))*\))+)*)(?:=([^{}?]*))?(\?)?\}"
)
_CONSTRAINT = re.compile(r":([a-zA-Z]+)(?:\(((?:[^()]|\([^()]*\))*)\))?")
_NUMBER = re.compile(r"[-+]?\d+")


class Constraint(NamedTuple):
    """What a parameter's value must be, and a value that is so (for comparing routes)."""

    accepts: Callable[[str], bool]
    example: str


class Template(NamedTuple):
    """A compiled route template."""

    text: str
    pattern: re.Pattern[str]
    constraints: Mapping[str, tuple[Constraint, ...]]
    defaults: Mapping[str, str]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters' values when `path` (percent-encoded, without the leading slash) fits."""
        match = self.pattern.fullmatch(path.rstrip("/"))
        if match is None:
            return None
        found = {name: _decoded(value) for name, value in match.groupdict().items() if value}
        for name, constraints in self.constraints.items():
            if name in found and not all(constraint.accepts(found[name]) for constraint in constraints):
                return None
        return {**self.defaults, **found}

    @property
    def parameterised(self) -> bool:
        """Whether the template has parameters."""
        return bool(self.pattern.groups)

    def example(self) -> str:
        """Return a path that this template is meant for."""

        def fill(match: re.Match[str]) -> str:
            constraints = self.constraints.get(match[2].strip(), ())
            return constraints[0].example if constraints else "some-value"

        return _PARAMETER.sub(fill, self.text)


class Route(NamedTuple):
    """A function's address: its template under the route prefix, and the methods (empty: all)."""

    function: str
    template: Template
    methods: frozenset[str]

    def overlaps(self, other: Route) -> bool:
        """Whether some method would be taken by both."""
        return not self.methods or not other.methods or bool(self.methods & other.methods)


class Router:
    """The routes of an app, tried in the order of the functions' names, as the platform does."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(sorted(routes, key=lambda route: route.function))
        # Most routes have no parameters: they are looked up, not tried one by one.
        self._literal: dict[str, list[Route]] = {}
        for route in self.routes:
            if not route.template.parameterised:
                self._literal.setdefault(route.template.text.lower(), []).append(route)
        self._parameterised = tuple(route for route in self.routes if route.template.parameterised)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route that takes the request, and its parameters; None is a 404.

        `path` is percent-encoded and has no leading slash.
        """
        literal = self._literal.get(_decoded(path).rstrip("/").lower(), ())
        candidates: list[tuple[Route, dict[str, str]]] = [
            (route, {}) for route in literal if not route.methods or method in route.methods
        ]
        for route in self._parameterised:
            if not route.methods or method in route.methods:
                found = route.template.match(path)
                if found is not None:
                    candidates.append((route, found))
        return min(candidates, key=lambda candidate: candidate[0].function, default=None)

    def hidden(self) -> Iterable[tuple[Route, Route]]:
        """Yield each route that can never be reached, with the one that takes its requests."""
        for position, route in enumerate(self.routes):
            path = route.template.example()
            for earlier in self.routes[:position]:
                if earlier.overlaps(route) and earlier.template.match(path) is not None:
                    yield route, earlier
                    break


def compile_template(text: str) -> Template:
    """Return the template written as `text`, route prefix included, without slashes around it.

    Raises:
        ValueError: it is malformed.
    """
    constraints: dict[str, tuple[Constraint, ...]] = {}
    defaults: dict[str, str] = {}
    pattern = ""
    for position, segment in enumerate(text.split("/") if text else ()):
        slash = "/" if position else ""
        if not segment:
            raise ValueError("has an empty segment ('//')")
        parts, end = "", 0
        optional = False
        for match in _PARAMETER.finditer(segment):
            parts += _literal_pattern(segment[end : match.start()])
            stars, name, rules, default, question = match.groups()
            name = name.strip()
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ValueError(f"has a parameter {name!r}, which is no name")
            if name in constraints:
                raise ValueError(f"has the parameter {name!r} twice")
            constraints[name] = tuple(_constraint(*rule) for rule in _CONSTRAINT.findall(rules or ""))
            if default is not None:
                defaults[name] = default
            optional = bool(question or default is not None or stars)
            parts += f"(?P<{name}>{'.*' if stars else '[^/]+'})"
            end = match.end()
        parts += _literal_pattern(segment[end:])
        whole = optional and _PARAMETER.fullmatch(segment) is not None
        pattern += f"(?:{slash}{parts})?" if whole else slash + parts
    return Template(text, re.compile(pattern, re.IGNORECASE), constraints, defaults)


def _decoded(path: str) -> str:
    # %2F stays: a decoded slash would be another segment.
    return unquote(re.sub("%2f", "%252F", path, flags=re.IGNORECASE)) if "%" in path else path


def _literal_pattern(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError("has a brace that opens or closes nothing")
    if "?" in text:
        raise ValueError("has a literal '?'")
    return re.escape(text)


def _constraint(name: str, arguments: str) -> Constraint:
    """Return the inline constraint `name(arguments)` of ASP.NET Core's routing."""
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name == "regex":
        pattern = re.compile(arguments.replace("{{", "{").replace("}}", "}"), re.IGNORECASE)
        return Constraint(lambda value: pattern.search(value) is not None, "some-value")
    numbers = [int(number) for number in arguments.replace(" ", "").split(",") if _NUMBER.fullmatch(number)]
    match name, numbers:
        case "length", [exact]:
            return Constraint(lambda value: len(value) == exact, "x" * exact)
        case ("length", [low, high]):
            return Constraint(lambda value: low <= len(value) <= high, "x" * low)
        case "minlength", [low]:
            return Constraint(lambda value: len(value) >= low, "x" * low)
        case "maxlength", [high]:
            return Constraint(lambda value: len(value) <= high, "x")
        case "min", [low]:
            return Constraint(lambda value: _is_integer(value, 64) and int(value) >= low, str(low))
        case "max", [high]:
            return Constraint(lambda value: _is_integer(value, 64) and int(value) <= high, str(high))
        case "range", [low, high]:
            return Constraint(lambda value: _is_integer(value, 64) and low <= int(value) <= high, str(low))
    raise ValueError(f"has an unknown constraint {name!r}")


def _is_integer(value: str, bits: int) -> bool:
    return bool(_NUMBER.fullmatch(value)) and -(1 << bits - 1) <= int(value) < 1 << bits - 1


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", value, re.IGNORECASE) is not None


_GUID = re.compile(r"\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[-+]\d{2}:\d{2})?)?")
_SIMPLE = {
    "int": Constraint(lambda value: _is_integer(value, 32), "1"),
    "long": Constraint(lambda value: _is_integer(value, 64), "1"),
    "bool": Constraint(lambda value: value.lower() in ("true", "false"), "true"),
    "guid": Constraint(
        lambda value: _GUID.fullmatch(value) is not None, "00000000-0000-0000-0000-000000000000"
    ),
    "alpha": Constraint(lambda value: re.fullmatch("[a-zA-Z]*", value) is not None, "x"),
    "decimal": Constraint(_is_number, "1"),
    "double": Constraint(_is_number, "1"),
    "float": Constraint(_is_number, "1"),
    "datetime": Constraint(lambda value: _DATE.fullmatch(value) is not None, "2024-01-01"),
    "required": Constraint(bool, "x"),
}
