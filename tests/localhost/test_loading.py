"""What the platform refuses at start is refused here, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localhost.azurite import ACCOUNT, ACCOUNT_KEY
from localhost.errors import AppRefused
from localhost.functions import Function
from localhost.host_json import read_host_json
from localhost.loading import load_functions
from tests.localhost.apps import write_app

STORAGE = (
    f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
    f"QueueEndpoint=http://127.0.0.1:1/{ACCOUNT};"
)


def _load(
    folder: Path, source: str, host_json: dict[str, Any] | None = None, **settings: str
) -> list[Function]:
    environ = {"AzureWebJobsStorage": STORAGE, **settings}
    write_app(folder, source, host_json)
    return load_functions(folder, read_host_json(folder, environ), environ)


def _refusal(
    folder: Path, source: str, host_json: dict[str, Any] | None = None, **settings: str
) -> list[str]:
    with pytest.raises(AppRefused) as refusal:
        _load(folder, source, host_json, **settings)
    return list(refusal.value.problems)


def test_an_app_that_the_platform_serves_is_accepted(tmp_path: Path) -> None:
    """Triggers, outputs, context and unannotated functions, in the order of their names."""
    functions = _load(
        tmp_path,
        """
import typing
@app.route(route="things/{id:int?}", methods=["GET", "post"], auth_level=func.AuthLevel.ADMIN)
def things(req: func.HttpRequest, context: func.Context) -> func.HttpResponse: ...
@app.route()
def bare(req): ...
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="out", queue_name="done", connection="Storage")
def work(msg: str, out: func.Out[typing.List[str]]) -> None: ...
@app.timer_trigger(arg_name="timer", schedule="%WHEN%", run_on_startup=True)
def nightly(timer: func.TimerRequest) -> None: ...
""",
        JOBS="jobs",
        WHEN="0 0 3 * * *",
    )
    assert [function.name for function in functions] == ["bare", "nightly", "things", "work"]
    by_name = {function.name: function for function in functions}
    assert by_name["bare"].route("api", {}) == "api/bare"
    assert by_name["bare"].methods == frozenset()
    assert by_name["things"].methods == {"GET", "POST"}
    assert by_name["things"].auth_level == "admin"
    assert by_name["things"].wants_context
    assert by_name["bare"].auth_level == "anonymous"


HTTP_TWICE = """
@app.function_name("same")
@app.route(route="a")
def one(req: func.HttpRequest) -> func.HttpResponse: ...
@app.function_name("same")
@app.route(route="b")
def two(req: func.HttpRequest) -> func.HttpResponse: ...
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import nothing_of_this_name",
            ["function_app.py, line 5", "nothing_of_this_name", "requirements.txt"],
        ),
        ("def broken(:", ["function_app.py, line 5", "invalid syntax"]),
        ("1 / 0", ["function_app.py, line 5", "ZeroDivisionError"]),
        ("raise SystemExit(3)", ["function_app.py, line 5", "SystemExit"]),
        ("app = None", ["defines no app", "app = func.FunctionApp()"]),
        ("other = func.FunctionApp()", ["several apps (app, other)", "Blueprint"]),
        ("application = app", ["one app under several names (app, application)"]),
        (HTTP_TWICE, ["same", "unique"]),
        (
            "@app.queue_output(arg_name='o', queue_name='q', connection='S')\ndef lone(o): ...",
            ["lone", "trigger"],
        ),
        (
            "@app.route()\n@app.timer_trigger(arg_name='t', schedule='* * * * * *')\ndef both(req, t): ...",
            ["function_app.py, line", "trigger was already registered"],
        ),
        (
            "@app.route()\ndef f(request: func.HttpRequest) -> func.HttpResponse: ...",
            ["f: the parameter 'request' has no binding: call it 'req'"],
        ),
        (
            "@app.route()\ndef f(req, more=1): ...",
            ["f: the parameter 'more' has no binding: name it as its binding (req), or remove it"],
        ),
        ("@app.route()\ndef f(): ...", ["f: the binding 'req' has no parameter"]),
        ("@app.route()\ndef f(req) -> dict: ...", ["f: the return annotation dict", "-> func.HttpResponse"]),
        ("@app.route()\ndef f(req) -> None: ...", ["f: the return annotation NoneType"]),
        ("@app.route()\ndef f(req) -> 'list[str]': ...", ["f: the return annotation list[str]"]),
        (
            "@app.route()\ndef f(req: dict): ...",
            ["f: the parameter 'req' is annotated dict", "func.HttpRequest"],
        ),
        ("@app.route()\ndef f(req: 'Nowhere'): ...", ["f: an annotation cannot be read", "Nowhere"]),
        ("@app.route()\ndef f(req: func.HttpRequest | None): ...", ["f: the parameter 'req'", "not a class"]),
        ("@app.route()\ndef f(req, context: dict): ...", ["f: the parameter 'context' must be annotated"]),
        (
            "@app.route()\n@app.queue_output(arg_name='my_out', queue_name='done', connection='Storage')\n"
            "def f(req, my_out: func.Out[str]): ...",
            ["f: the binding name 'my_out' is refused", "letters and digits"],
        ),
        (
            "@app.route()\n@app.queue_output(arg_name='out', queue_name='done', connection='Storage')\n"
            "def f(req, out: str): ...",
            ["f: the parameter 'out' is an output", "func.Out[str]"],
        ),
        ("@app.route()\ndef f(req: func.Out[str]): ...", ["f: the parameter 'req' is an input"]),
        (
            "@app.route()\n@app.queue_output(arg_name='out', queue_name='%UNSET%', connection='Storage')\n"
            "def f(req, out: func.Out[str]): ...",
            ["f: the binding 'out' needs the setting UNSET", "local.settings.json"],
        ),
        (
            "@app.queue_trigger(arg_name='m', queue_name='jobs', connection='Elsewhere')\ndef f(m: str): ...",
            ["f: the binding 'm' needs the connection Elsewhere"],
        ),
        (
            "@app.queue_trigger(arg_name='m', queue_name='Jobs_', connection='Storage')\ndef f(m: str): ...",
            ["f: the queue name 'Jobs_' is refused"],
        ),
        (
            "@app.queue_trigger(arg_name='m', queue_name='jobs', connection='Storage')\ndef f(m: int): ...",
            ["f: the parameter 'm' is annotated int", "func.QueueMessage or str"],
        ),
        (
            "@app.timer_trigger(arg_name='t', schedule='0 0 25 * * *')\ndef f(t): ...",
            ["f: the schedule is not NCRONTAB", "hour '25'"],
        ),
        (
            "@app.timer_trigger(arg_name='t', schedule='00:05:00')\ndef f(t): ...",
            ["f: the schedule '00:05:00'"],
        ),
        (
            "@app.timer_trigger(arg_name='t', schedule='0 0 0 30 2 *')\ndef f(t): ...",
            ["f: the schedule", "no date"],
        ),
        (
            "@app.timer_trigger(arg_name='t', schedule='%NEVER%')\ndef f(t): ...",
            ["f: the binding 't'", "NEVER"],
        ),
        (
            "@app.blob_trigger(arg_name='b', path='x/y', connection='Storage')\ndef f(b): ...",
            ["f: the binding type 'blobTrigger' is not run here", "--host func"],
        ),
        ("@app.function_name('1st')\n@app.route()\ndef f(req): ...", ["1st: is no function name"]),
        (
            "@app.route(route='x')\ndef F(req): ...\n@app.route(route='y')\ndef f(req): ...",
            ["f: differs from F only in case"],
        ),
        ("@app.route(route='x/{')\ndef f(req): ...", ["f: the route 'x/{' has a brace"]),
        (
            "@app.route(route='x/{id}')\ndef any_x(req): ...\n@app.route(route='x/one')\ndef one(req): ...",
            ["one: its route /api/x/one is never reached", "/api/x/{id} of any_x"],
        ),
        (
            "@app.route(route='x', methods=['GET'])\ndef a(req): ...\n@app.route(route='x')\ndef b(req): ...",
            ["b: its route /api/x is never reached"],
        ),
    ],
)
def test_refusals_name_the_function_and_the_fix(tmp_path: Path, source: str, said: list[str]) -> None:
    """Each way in which the platform refuses a whole app is one line that says what to do."""
    (problem,) = _refusal(tmp_path, source)
    assert "\n" not in problem
    for words in said:
        assert words in problem, problem


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    """Nobody has to start ten times to find ten mistakes."""
    problems = _refusal(
        tmp_path,
        """
@app.route()
def one(request) -> dict: ...
@app.timer_trigger(arg_name="t", schedule="never")
def two(t, more): ...
""",
    )
    assert [problem.split(":")[0] for problem in problems] == ["one", "one", "two", "two"]


def test_queue_bindings_need_the_extension_bundle(tmp_path: Path) -> None:
    """Without it the platform does not know the binding type."""
    source = "@app.queue_trigger(arg_name='m', queue_name='jobs', connection='Storage')\ndef f(m: str): ..."
    write_app(tmp_path, source)
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    environ = {"AzureWebJobsStorage": STORAGE}
    with pytest.raises(AppRefused, match=r'need "extensionBundle" in host\.json'):
        load_functions(tmp_path, read_host_json(tmp_path, environ), environ)


def test_routes_of_the_platform_itself_are_refused(tmp_path: Path) -> None:
    """`/admin` belongs to the host."""
    (problem,) = _refusal(
        tmp_path,
        "@app.route(route='admin/x')\ndef f(req): ...",
        {"extensions": {"http": {"routePrefix": ""}}},
    )
    assert problem == "f: routes under /admin belong to the platform: choose another"


def test_a_folder_without_an_app_is_refused(tmp_path: Path) -> None:
    """The message names the folder."""
    options = read_host_json(write_app(tmp_path, ""), {})
    (tmp_path / "function_app.py").unlink()
    with pytest.raises(AppRefused, match=r"there is no function_app\.py in"):
        load_functions(tmp_path, options, {})
