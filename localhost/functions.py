"""The functions of an app, as the host sees them: name, code, trigger, bindings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import azure.functions as func

from localhost.errors import LocalhostError

HTTP_TRIGGER = "httpTrigger"
QUEUE_TRIGGER = "queueTrigger"
TIMER_TRIGGER = "timerTrigger"
HTTP_OUTPUT = "http"
QUEUE_OUTPUT = "queue"

#: The name of the binding that a function's return value goes to.
RETURN = "$return"

#: The storage connection that triggers and bindings use when they name none.
DEFAULT_CONNECTION = "AzureWebJobsStorage"

_SETTING = re.compile(r"%([^%]+)%")


class UnsetSetting(LocalhostError):
    """A binding names a setting that has no value; `key` is its name."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the setting {key} is not set")
        self.key = key


@dataclass(frozen=True)
class Binding:
    """One trigger, input or output of a function; `options` as in `function.json`, unresolved."""

    name: str
    type: str
    is_output: bool
    options: Mapping[str, Any]

    def option(self, key: str, environ: Mapping[str, str]) -> str:
        """Return an option as text, with every `%SETTING%` replaced; empty when it is not given.

        Raises:
            UnsetSetting: a setting it names has no value.
        """

        def value(match: re.Match[str]) -> str:
            if not environ.get(match[1]):
                raise UnsetSetting(match[1])
            return environ[match[1]]

        given = self.options.get(key)
        return "" if given is None else _SETTING.sub(value, str(given))

    def connection_string(self, environ: Mapping[str, str]) -> str:
        """Return the storage connection string that the binding's `connection` stands for.

        Raises:
            UnsetSetting: neither `AzureWebJobs<connection>` nor `<connection>` is set.
        """
        key = self.option("connection", environ) or DEFAULT_CONNECTION
        found = environ.get(f"AzureWebJobs{key}") or environ.get(key)
        if not found:
            raise UnsetSetting(key)
        return found


@dataclass(frozen=True)
class Function:
    """One function of the app."""

    name: str
    call: Callable[..., Any]
    trigger: Binding
    outputs: tuple[Binding, ...]
    annotations: Mapping[str, Any]
    wants_context: bool

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop instead of in a thread."""
        return inspect.iscoroutinefunction(self.call)

    @property
    def answers_http(self) -> bool:
        """Whether an HTTP request starts it."""
        return self.trigger.type == HTTP_TRIGGER

    @property
    def methods(self) -> frozenset[str]:
        """The HTTP methods it takes; empty for all."""
        return frozenset(str(method).upper() for method in self.trigger.options.get("methods") or ())

    @property
    def auth_level(self) -> str:
        """`anonymous`, `function` or `admin`."""
        return str(self.trigger.options.get("authLevel") or "function").lower()

    def route(self, prefix: str, environ: Mapping[str, str]) -> str:
        """Return its route template with the prefix; an empty route is the function's name."""
        route = self.trigger.option("route", environ).strip("/") or self.name
        return f"{prefix}/{route}" if prefix else route


def read_function(declared: func.Function, annotations: Mapping[str, Any]) -> Function:
    """Return what the decorators declared for one function, with its resolved `annotations`."""
    bindings = [
        Binding(
            name=binding.name,
            type=str(binding.type),
            is_output=binding.direction == 1,
            options={key: _plain(value) for key, value in binding.get_dict_repr().items()},
        )
        for binding in declared.get_bindings()
    ]
    trigger = declared.get_trigger()
    assert trigger is not None  # the library refuses an app whose functions lack one
    call = declared.get_user_function()
    return Function(
        name=str(declared.get_function_name()),
        call=call,
        trigger=next(binding for binding in bindings if binding.name == trigger.name),
        outputs=tuple(binding for binding in bindings if binding.name != trigger.name),
        annotations=annotations,
        wants_context="context" in inspect.signature(call).parameters
        and all(binding.name != "context" for binding in bindings),
    )


def _plain(value: Any) -> Any:
    """Return an option of `function.json` without the library's enumerations."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value
