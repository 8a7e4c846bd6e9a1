"""What `azureml/*.yml` say: a pipeline component, its steps in order, and each step's command.

Of the schemas (https://learn.microsoft.com/azure/machine-learning/reference-yaml-component-pipeline
and -command) this reads what our files use: bindings `${{parent.inputs.x}}` and
`${{parent.jobs.step.outputs.x}}`, `${{inputs.x}}` and `${{outputs.x}}` in commands, optional
parts `$[[...]]`, defaults, and the types of inputs. What it does not know it refuses.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from localhost.errors import LocalhostError

DATA_TYPES = ("uri_file", "uri_folder")

_LITERAL_TYPES = ("string", "integer", "number", "boolean")
_PARENT_INPUT = re.compile(r"\$\{\{\s*parent\.inputs\.(\w+)\s*\}\}")
_PARENT_OUTPUT = re.compile(r"\$\{\{\s*parent\.jobs\.(\w+)\.outputs\.(\w+)\s*\}\}")
_PLACE = re.compile(r"\$\{\{\s*(inputs|outputs)\.(\w+)\s*\}\}")
_OPTIONAL_PART = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


class Input(Struct, frozen=True):
    """An input of a component."""

    type: str
    optional: bool = False
    default: str | None = None
    enum: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether a job must give it."""
        return not self.optional and self.default is None

    def problem(self, value: str) -> str | None:
        """Return what is wrong with a literal, None if nothing is."""
        if self.enum and value not in self.enum:
            return f"must be one of {', '.join(self.enum)}, got {value!r}"
        if self.type == "integer" and not re.fullmatch(r"[+-]?\d+", value):
            return f"must be an integer, got {value!r}"
        return None


class FromParent(Struct, frozen=True):
    """An input that is one of the pipeline's."""

    name: str


class FromStep(Struct, frozen=True):
    """An input that is what another step put out."""

    step: str
    output: str


class Step(Struct, frozen=True, kw_only=True):
    """One job of the pipeline."""

    name: str
    command: str
    inputs: dict[str, Input]
    #: Where each input comes from; a string is the value itself.
    bindings: dict[str, FromParent | FromStep | str]
    outputs: tuple[str, ...]

    def words(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> list[str]:
        """Return the command with its values filled in, ready to run; it is given to no shell.

        Raises:
            LocalhostError: the command names something that is not there.
        """
        values = {
            **{("inputs", name): value for name, value in inputs.items()},
            **{("outputs", name): value for name, value in outputs.items()},
        }

        def part(match: re.Match[str]) -> str:
            places = _PLACE.findall(match[1])
            return match[1] if all(place in values for place in places) else ""

        def value(match: re.Match[str]) -> str:
            place = (match[1], match[2])
            if place not in values:
                raise LocalhostError(
                    f"step {self.name}: its command needs {'.'.join(place)}, which is not given"
                )
            return values[place]

        # Without the spaces in them, places survive the splitting into words.
        text = _PLACE.sub(r"${{\1.\2}}", _OPTIONAL_PART.sub(part, self.command))
        return [_PLACE.sub(value, word) for word in shlex.split(text)]


class Pipeline(Struct, frozen=True, kw_only=True):
    """A pipeline component; its steps stand in an order in which they can run."""

    name: str
    version: str
    inputs: dict[str, Input]
    steps: tuple[Step, ...]


def read_pipeline(path: Path) -> Pipeline:
    """Read a pipeline component and the components of its steps.

    Raises:
        LocalhostError: a file is missing, or says what is not understood here; the message names both.
    """
    document = _load(path)
    if document.get("type") != "pipeline":
        raise LocalhostError(f"{path}: is no pipeline component (type: pipeline)")
    inputs = _inputs(document, path)
    steps = {name: _step(name, job, path, inputs) for name, job in _mapping(document, "jobs", path).items()}
    for step in steps.values():
        for bound in step.bindings.values():
            if isinstance(bound, FromStep) and (
                bound.step not in steps or bound.output not in steps[bound.step].outputs
            ):
                raise LocalhostError(f"{path}: {step.name}: {bound.step} has no output {bound.output}")
    before = {
        step.name: {bound.step for bound in step.bindings.values() if isinstance(bound, FromStep)}
        for step in steps.values()
    }
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise LocalhostError(f"{path}: steps wait for each other: {', '.join(error.args[1])}") from error
    return Pipeline(
        name=_text(document, "name", path),
        version=_text(document, "version", path),
        inputs=inputs,
        steps=tuple(steps[name] for name in order),
    )


def _step(name: str, job: Any, path: Path, parents: Mapping[str, Input]) -> Step:
    if not isinstance(job, dict) or not str(job.get("component", "")).endswith((".yml", ".yaml")):
        raise LocalhostError(f"{path}: {name}: `component` must be the path of a component's file")
    file = path.parent / job["component"].removeprefix("file:")
    component = _load(file)
    inputs = _inputs(component, file)
    bindings = {
        key: _binding(value, f"{path}: {name}: {key}") for key, value in (job.get("inputs") or {}).items()
    }
    for key, bound in bindings.items():
        if key not in inputs:
            raise LocalhostError(f"{path}: {name}: {file.name} has no input {key}")
        if isinstance(bound, FromParent):
            if bound.name not in parents:
                raise LocalhostError(f"{path}: {name}: the pipeline has no input {bound.name}")
            if parents[bound.name].optional and inputs[key].required:
                raise LocalhostError(f"{path}: {name}: {key} is required, and {bound.name} is optional")
    for key, given in inputs.items():
        if given.required and key not in bindings:
            raise LocalhostError(f"{path}: {name}: {key} is not given")
    return Step(
        name=name,
        command=_text(component, "command", file),
        inputs=inputs,
        bindings=bindings,
        outputs=tuple(_mapping(component, "outputs", file, optional=True)),
    )


def _binding(value: Any, place: str) -> FromParent | FromStep | str:
    text = _literal(value)
    if match := _PARENT_INPUT.fullmatch(text):
        return FromParent(match[1])
    if match := _PARENT_OUTPUT.fullmatch(text):
        return FromStep(match[1], match[2])
    if "${{" in text:
        raise LocalhostError(f"{place}: {text} is not understood here")
    return text


def _inputs(document: Mapping[str, Any], path: Path) -> dict[str, Input]:
    found = {}
    for name, given in _mapping(document, "inputs", path, optional=True).items():
        kind = given.get("type") if isinstance(given, dict) else None
        if kind not in (*DATA_TYPES, *_LITERAL_TYPES):
            raise LocalhostError(f"{path}: input {name}: the type {kind!r} is not known here")
        default = given.get("default")
        found[name] = Input(
            type=kind,
            optional=bool(given.get("optional", False)),
            default=None if default is None else _literal(default),
            enum=tuple(map(_literal, given.get("enum") or ())),
        )
    return found


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _load(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise LocalhostError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise LocalhostError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise LocalhostError(f"{path}: has no keys")
    return document


def _mapping(document: Mapping[str, Any], key: str, path: Path, optional: bool = False) -> dict[str, Any]:
    value = document.get(key)
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        raise LocalhostError(f"{path}: `{key}` is missing")
    return value


def _text(document: Mapping[str, Any], key: str, path: Path) -> str:
    value = document.get(key)
    if not value:
        raise LocalhostError(f"{path}: `{key}` is missing")
    return str(value)
