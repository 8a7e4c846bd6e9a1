"""What the platform refuses, found before it does: each problem is a line that says what to do."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import azure.functions as func
from azure.storage.queue import QueueClient

from localhost import ncrontab
from localhost.bindings import find_converter
from localhost.functions import (
    HTTP_OUTPUT,
    HTTP_TRIGGER,
    QUEUE_OUTPUT,
    QUEUE_TRIGGER,
    RETURN,
    TIMER_TRIGGER,
    Binding,
    Function,
    UnsetSetting,
)
from localhost.host_json import HostOptions
from localhost.routes import Route, Router, compile_template

_FUNCTION_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,127}")
_BINDING_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]{0,127}")
_QUEUE_NAME = re.compile(r"[a-z0-9](?:-?[a-z0-9])+")
_TIME_SPAN = re.compile(r"(\d+\.)?\d{1,2}:\d{2}(:\d{2})?")
_RUN_HERE = {HTTP_TRIGGER, QUEUE_TRIGGER, TIMER_TRIGGER, HTTP_OUTPUT, QUEUE_OUTPUT}
_RESERVED_PREFIXES = ("admin", "runtime")
_UNIONS = (typing.Union, types.UnionType)
# Whether a schedule names any date at all does not depend on when it is asked.
_ANY_TIME = datetime(2000, 1, 1)


def type_hints(call: Callable[..., Any]) -> dict[str, Any] | str:
    """Return the resolved annotations of a function, or what is wrong with them."""
    try:
        return typing.get_type_hints(call)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        return f"an annotation cannot be read ({type(error).__name__}: {error}): import what it names"


def check_function(function: Function, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with one function, its name left out."""
    if not _FUNCTION_NAME.fullmatch(function.name):
        yield "is no function name: start with a letter, then letters, digits, _ and - (at most 128)"
    for binding in (function.trigger, *function.outputs):
        if binding.type not in _RUN_HERE:
            yield f"the binding type {binding.type!r} is not run here: use `--host func`"
        if binding.name != RETURN and not _BINDING_NAME.fullmatch(binding.name):
            yield (
                f"the binding name {binding.name!r} is refused: only letters and digits, a letter first, "
                "and the parameter named alike"
            )
        yield from _check_settings(binding, environ)
    yield from _check_parameters(function)
    yield from _check_return(function)
    if function.trigger.type == TIMER_TRIGGER:
        yield from _check_schedule(function.trigger, environ)


def check_together(
    functions: Sequence[Function], options: HostOptions, environ: Mapping[str, str]
) -> Iterator[str]:
    """Yield what is wrong with the app as a whole."""
    lower: dict[str, str] = {}
    for function in functions:
        other = lower.setdefault(function.name.lower(), function.name)
        if other != function.name:
            yield f"{function.name}: differs from {other} only in case, which does not count: rename one"
    queued = [function.name for function in functions if _uses_queue(function)]
    if queued and options.extension_bundle is None:
        yield (
            f'{queued[0]}: queue bindings need "extensionBundle" in host.json: '
            '{"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"}'
        )
    routes = []
    for function in functions:
        if function.answers_http:
            try:
                template = compile_template(function.route(options.route_prefix, environ))
            except UnsetSetting:
                continue  # said by check_function
            except (ValueError, re.error) as error:
                yield f"{function.name}: the route {function.trigger.options.get('route')!r} {error}"
                continue
            if template.text.lower().split("/")[0] in _RESERVED_PREFIXES:
                yield (
                    f"{function.name}: routes under /{template.text.split('/')[0]} belong to the platform: "
                    "choose another"
                )
            routes.append(Route(function.name, template, function.methods))
    for hidden, by in Router(routes).hidden():
        yield (
            f"{hidden.function}: its route /{hidden.template.text} is never reached: /{by.template.text} "
            f"of {by.function} comes first (functions are tried in the order of their names): "
            "rename the function, or constrain the parameter"
        )


def _uses_queue(function: Function) -> bool:
    return any(
        binding.type in (QUEUE_TRIGGER, QUEUE_OUTPUT) for binding in (function.trigger, *function.outputs)
    )


def _check_settings(binding: Binding, environ: Mapping[str, str]) -> Iterator[str]:
    for key in binding.options:
        try:
            value = binding.option(key, environ)
        except UnsetSetting as error:
            yield (
                f"the binding {binding.name!r} needs the setting {error.key} (%{error.key}%), which is not "
                "set: add it to local.settings.json, and to the app's settings in Azure"
            )
            continue
        if key == "queueName" and not (_QUEUE_NAME.fullmatch(value) and 3 <= len(value) <= 63):
            yield (
                f"the queue name {value!r} is refused by storage: "
                "3 to 63 lower-case letters, digits and single hyphens between them"
            )
    if binding.type in (QUEUE_TRIGGER, QUEUE_OUTPUT):
        try:
            connection = binding.connection_string(environ)
            QueueClient.from_connection_string(connection, "any").close()
        except UnsetSetting as error:
            yield (
                f"the binding {binding.name!r} needs the connection {error.key}, which is not set: "
                "add it to local.settings.json"
            )
        except ValueError as error:
            yield f"the connection of the binding {binding.name!r} is no storage connection string: {error}"


def _check_schedule(trigger: Binding, environ: Mapping[str, str]) -> Iterator[str]:
    try:
        expression = trigger.option("schedule", environ)
    except UnsetSetting:
        return  # said by _check_settings
    if _TIME_SPAN.fullmatch(expression.strip()):
        yield f"the schedule {expression!r} is a time span, which few plans run: write NCRONTAB"
        return
    try:
        ncrontab.parse(expression).next_after(_ANY_TIME)
    except ValueError as error:
        yield f"the schedule is not NCRONTAB: {error}"


def _check_parameters(function: Function) -> Iterator[str]:
    parameters = set(inspect.signature(function.call).parameters)
    if function.wants_context:
        parameters.discard("context")
        annotation = function.annotations.get("context", func.Context)
        if getattr(annotation, "__name__", "") != "Context":
            yield "the parameter 'context' must be annotated func.Context, or not at all"
    bindings = {
        binding.name: binding for binding in (function.trigger, *function.outputs) if binding.name != RETURN
    }
    unbound, missing = sorted(parameters - set(bindings)), sorted(set(bindings) - parameters)
    if len(unbound) == len(missing) == 1:
        yield f"the parameter {unbound[0]!r} has no binding: call it {missing[0]!r}, as its binding is called"
        unbound = missing = []
    for name in unbound:
        yield (
            f"the parameter {name!r} has no binding: name it as its binding ({', '.join(bindings)}), "
            "or remove it"
        )
    for name in missing:
        yield f"the binding {name!r} has no parameter: give the function a parameter of that name"
    for name in sorted(set(bindings) & parameters):
        if name in function.annotations:
            problem = _check_annotation(bindings[name], function.annotations[name])
            if problem:
                yield f"the parameter {name!r} {problem}"


def _check_annotation(binding: Binding, annotation: Any) -> str | None:
    """Return what is wrong with a parameter's annotation, if anything."""
    is_out = annotation is func.Out or typing.get_origin(annotation) is func.Out
    if binding.is_output and not is_out:
        return "is an output: annotate it func.Out[str]"
    if is_out and not binding.is_output:
        return "is an input: it cannot be func.Out"
    if is_out:
        arguments = typing.get_args(annotation)
        if len(arguments) != 1:
            return "needs to say what is put out: func.Out[str]"
        annotation = arguments[0]
    if not isinstance(annotation, type) and typing.get_origin(annotation) in (None, *_UNIONS):
        return f"has the annotation {annotation!r}, which is not a class"
    if annotation in (str, bytes):
        return None
    converter = find_converter(binding.type)
    accepts = converter and (
        converter.check_output_type_annotation if binding.is_output else converter.check_input_type_annotation
    )
    if accepts and not _accepted(accepts, annotation):
        return (
            f"is annotated {_name(annotation)}, which does not fit the binding type {binding.type!r}: "
            f"use {_advice(binding)}"
        )
    return None


def _check_return(function: Function) -> Iterator[str]:
    target = next((binding for binding in function.outputs if binding.name == RETURN), None)
    if target is None or "return" not in function.annotations:
        return
    annotation = function.annotations["return"]
    converter = find_converter(target.type)
    if not isinstance(annotation, type) or not (
        converter and _accepted(converter.check_output_type_annotation, annotation)
    ):
        advice = "-> func.HttpResponse" if target.type == HTTP_OUTPUT else "-> str"
        yield f"the return annotation {_name(annotation)} is refused: write `{advice}`, or leave it out"


def _accepted(check: Callable[[Any], bool], annotation: Any) -> bool:
    try:
        return bool(check(annotation))
    except TypeError:  # the library's checks call issubclass on what may not be a class
        return False


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _advice(binding: Binding) -> str:
    return {
        HTTP_TRIGGER: "func.HttpRequest",
        QUEUE_TRIGGER: "func.QueueMessage or str",
        TIMER_TRIGGER: "func.TimerRequest",
        HTTP_OUTPUT: "func.Out[func.HttpResponse]",
        QUEUE_OUTPUT: "func.Out[str]",
    }[binding.type]
