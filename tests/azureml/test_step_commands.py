"""Every command in `azureml/` is one that our command line takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from localhost.azureml.definitions import Step, read_pipeline
from sentiment.__main__ import build_parser

ROOT = Path(__file__).parent.parent.parent

STEPS = read_pipeline(ROOT / "azureml" / "pipeline.yml").steps
SAMPLES = {"integer": "7", "uri_file": "/data/file.tsv", "uri_folder": "/data/folder"}


@pytest.mark.parametrize("optional", [True, False], ids=["with optional inputs", "without"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_our_command_line_takes_the_command_of_a_step(step: Step, optional: bool) -> None:
    """An option that is renamed on one side shows up here, not in Azure."""
    inputs = {
        name: declared.enum[0] if declared.enum else SAMPLES.get(declared.type, "name")
        for name, declared in step.inputs.items()
        if optional or not declared.optional
    }
    words = step.words(inputs, {output: f"/out/{output}" for output in step.outputs})
    assert words[:3] == ["python", "-m", "sentiment"]
    options = build_parser().parse_args(words[3:])
    assert callable(options.run)
