"""A workspace of the local Azure ML and a small pipeline: the setting of tests of both sides."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localhost.azureml.runner import Runner
from localhost.azureml.server import AzureMLServer
from sentiment.pipelines import Pipelines
from sentiment.settings import Settings

STORAGE = {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}

#: Copies its data to its output, and notes that it ran.
COPY = (
    'python -c "import sys, pathlib; data, out, note = sys.argv[1:4]; '
    "pathlib.Path(out, 'copy.txt').write_text(pathlib.Path(data).read_text()); "
    "print('copied', *sys.argv[4:]); open(note, 'a').write('copy\\n')\" "
    "${{inputs.data}} ${{outputs.copied}} ${{inputs.note}} $[[--more ${{inputs.more}}]]"
)
#: Waits until the file `go` is there, as the step after COPY.
WAIT = (
    'python -c "import sys, pathlib, time, os; copied, go, note = sys.argv[1:]; '
    "open(note, 'a').write(f'wait {os.getpid()}\\n'); print('waiting', flush=True)\n"
    "while not os.path.exists(go): time.sleep(0.01)\n"
    "print(pathlib.Path(copied, 'copy.txt').read_text()); open(note, 'a').write('done\\n')\" "
    "${{inputs.copied}} ${{inputs.go}} ${{inputs.note}}"
)


def write_pipeline(folder: Path, copy: str = COPY, wait: str = WAIT) -> Path:
    """Write a pipeline of two steps, the later one first, in `folder`/azureml; return its file."""
    azureml = folder / "azureml"
    azureml.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    text = {"type": "string"}
    documents: dict[str, Any] = {
        "wait": {
            "type": "command",
            "inputs": {"copied": {"type": "uri_folder"}, "go": text, "note": text},
            "command": wait,
        },
        "copy": {
            "type": "command",
            "inputs": {"data": {"type": "uri_file"}, "note": text, "more": {**text, "optional": True}},
            "outputs": {"copied": {"type": "uri_folder"}},
            "command": copy,
        },
        "pipeline": {
            "type": "pipeline",
            "name": "sentiment_retrain",
            "version": "1",
            "inputs": {
                "cycle": {"type": "integer"},
                "base_data": {"type": "uri_file"},
                "validation_data": {"type": "uri_file", "optional": True},
                "golden_data": {"type": "uri_file", "optional": True},
                "go": text,
                "note": text,
                "more": {**text, "optional": True},
            },
            "jobs": {
                "wait": {
                    "component": "./wait.yml",
                    "inputs": {
                        "copied": "${{parent.jobs.copy.outputs.copied}}",
                        "go": "${{parent.inputs.go}}",
                        "note": "${{parent.inputs.note}}",
                    },
                },
                "copy": {
                    "component": "./copy.yml",
                    "inputs": {
                        "data": "${{ parent.inputs.base_data }}",
                        "note": "${{parent.inputs.note}}",
                        "more": "${{parent.inputs.more}}",
                    },
                },
            },
        },
    }
    for name, document in documents.items():
        (azureml / f"{name}.yml").write_text(json.dumps(document))
    return azureml / "pipeline.yml"


class Workspace:
    """A folder with a pipeline, data and jobs; `go` is the file that lets the second step end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.definition = write_pipeline(folder)
        self.jobs = folder / "state" / "jobs"
        self.go = folder / "go"
        self.note = folder / "note.txt"
        self.data = folder / "base data.tsv"
        self.data.write_text("label\ttext\n")

    @property
    def inputs(self) -> dict[str, str]:
        return {"cycle": "7", "go": str(self.go), "note": str(self.note)}

    @property
    def noted(self) -> list[str]:
        return self.note.read_text().splitlines() if self.note.exists() else []

    def environ(self, server: AzureMLServer) -> dict[str, str]:
        uri = self.data.as_uri()
        data = {f"RETRAIN_{name}_DATA": uri for name in ("BASE", "VALIDATION", "GOLDEN")}
        return {**STORAGE, **server.settings, **data}

    @contextmanager
    def serve(self, **options: Any) -> Iterator[AzureMLServer]:
        with (
            Runner(self.jobs, self.definition, os.environ, **options) as runner,
            AzureMLServer(runner) as server,
        ):
            yield server

    def pipelines(self, server: AzureMLServer, seconds: float = 20.0, **changes: str) -> Pipelines:
        return open_pipelines(
            {**self.environ(server), "AZUREML_TIMEOUT_SECONDS": str(seconds), **changes}, first_pause=0.01
        )


def open_pipelines(environ: Mapping[str, str], first_pause: float) -> Pipelines:
    """Return a client for the workspace that `environ` names, impatient."""
    azureml = Settings.from_env(environ).azureml
    assert azureml is not None
    return Pipelines(azureml, None, first_pause=first_pause)
