"""Import `function_app.py` and list its functions, as the platform's Python worker does.

What the worker refuses is refused here, before anything starts, in words that
name the function and the fix. The rules are those of Microsoft's worker
(azure-functions-runtime: `loader.py`, `functions.py`).
"""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import azure.functions as func

from localhost.checks import check_function, check_together, type_hints
from localhost.errors import AppRefused
from localhost.functions import Function, read_function
from localhost.host_json import HostOptions

logger = logging.getLogger(__name__)

MODULE = "function_app"


def load_functions(folder: Path, options: HostOptions, environ: Mapping[str, str]) -> list[Function]:
    """Return the functions of the app in `folder`, in the order of their names.

    The folder's modules take precedence over installed ones of the same name.

    Raises:
        AppRefused: the platform would not serve this app; one line per problem.
    """
    app = _find_app(_import(folder))
    try:
        declared = app.get_functions()
    except ValueError as error:
        # A function without a trigger, or two of one name: the library names it.
        raise AppRefused(str(error)) from error
    functions: list[Function] = []
    problems: list[str] = []
    for one in declared:
        hints = type_hints(one.get_user_function())
        if isinstance(hints, str):
            problems.append(f"{one.get_function_name()}: {hints}")
            continue
        function = read_function(one, hints)
        functions.append(function)
        problems += [f"{function.name}: {problem}" for problem in check_function(function, environ)]
    functions.sort(key=lambda function: function.name)
    problems += check_together(functions, options, environ)
    if problems:
        raise AppRefused(*problems)
    return functions


def _import(folder: Path) -> ModuleType:
    if not (folder / f"{MODULE}.py").is_file():
        raise AppRefused(
            f"there is no {MODULE}.py in {folder}: run this in the folder of the app, or name it with --app"
        )
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    sys.modules.pop(MODULE, None)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(MODULE)
    except ModuleNotFoundError as error:
        logger.info("cannot import %s", MODULE, exc_info=True)
        raise AppRefused(
            f"{_where(error, folder)}: {error.msg}: is it in requirements.txt, and installed?"
        ) from error
    except SyntaxError as error:
        raise AppRefused(
            f"{_relative(error.filename or MODULE, folder)}, line {error.lineno}: {error.msg}"
        ) from error
    except (Exception, SystemExit) as error:
        logger.info("cannot import %s", MODULE, exc_info=True)
        raise AppRefused(f"{_where(error, folder)}: {type(error).__name__}: {error}") from error


def _where(error: BaseException, folder: Path) -> str:
    """Return the last line of the app's own code that led to `error`."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(folder))
    ]
    if not frames:
        return f"{MODULE}.py cannot be imported"
    return f"{_relative(frames[-1].filename, folder)}, line {frames[-1].lineno}"


def _relative(file: str, folder: Path) -> str:
    return str(Path(file).relative_to(folder)) if Path(file).is_relative_to(folder) else file


def _find_app(module: ModuleType) -> func.FunctionRegister:
    found = {name: value for name, value in vars(module).items() if isinstance(value, func.FunctionRegister)}
    if not found:
        raise AppRefused(f"{MODULE}.py defines no app: add `app = func.FunctionApp()` at its top level")
    if len(found) > 1:
        names = ", ".join(found)
        if len(set(map(id, found.values()))) == 1:
            raise AppRefused(
                f"{MODULE}.py has one app under several names ({names}): the platform counts two; keep one"
            )
        raise AppRefused(
            f"{MODULE}.py defines several apps ({names}): keep one, and make the others func.Blueprint()"
        )
    (app,) = found.values()
    return app
