"""The YAML of the pipeline: as azure-ai-ml reads it, and as the local Azure ML does."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from localhost.azureml.definitions import FromParent, Pipeline, read_pipeline
from localhost.errors import LocalhostError
from sentiment.pipelines import Pipelines
from sentiment.settings import Settings
from tests.workspace import STORAGE

ROOT = Path(__file__).parent.parent.parent
AZUREML = ROOT / "azureml"
COMPONENTS = sorted((AZUREML / "components").glob("*.yml"))

SUBSCRIPTION, GROUP, WORKSPACE = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "tweets", "learning"


@pytest.fixture(scope="module")
def sdk() -> Iterator[ModuleType]:
    """Azure ML's own SDK; what it says of its own dependencies is none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import azure.ai.ml

        yield azure.ai.ml


@pytest.fixture
def pipeline() -> Pipeline:
    return read_pipeline(AZUREML / "pipeline.yml")


@pytest.mark.parametrize("path", [*COMPONENTS, AZUREML / "pipeline.yml"], ids=lambda path: path.stem)
def test_azure_ml_takes_each_component(sdk: ModuleType, path: Path) -> None:
    """Every name, binding and type, checked offline as the SDK checks before it uploads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = sdk.load_component(path)._validate()
    assert result.passed, result.error_messages


def test_azure_ml_takes_the_job_and_the_environment(sdk: ModuleType) -> None:
    """Those that are given to `az ml` by hand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = sdk.load_job(AZUREML / "job.yml")._validate()
        environment = sdk.load_environment(AZUREML / "environment.yml")
    assert result.passed, result.error_messages
    assert environment.name == "sentiment-retrain"
    assert environment.conda_file["dependencies"][0] == "python=3.11"


def test_the_environment_has_what_training_needs() -> None:
    """The versions that are tested here, but for those that azureml-mlflow caps."""
    wanted = dict(_pins((ROOT / "requirements-train.txt").read_text()))
    wanted |= dict(_pins((ROOT / "requirements.txt").read_text()))
    there = dict(_pins((AZUREML / "conda.yml").read_text().replace("- ", "")))
    only_the_app = {"azure-functions"}
    capped = {"mlflow", "azure-storage-blob"}
    assert {name: version for name, version in wanted.items() if name not in only_the_app | capped} == {
        name: there.get(name) for name in wanted if name not in only_the_app | capped
    }
    assert {"azure-storage-blob", "mlflow-skinny", "azureml-mlflow"} <= there.keys()


def _pins(text: str) -> Iterator[tuple[str, str]]:
    for line in map(str.strip, text.splitlines()):
        name, separator, version = line.partition("==")
        if separator and not line.startswith("#"):
            yield name, version


def test_what_goes_up_is_the_code_of_the_steps(sdk: ModuleType) -> None:
    """`python -m sentiment` and nothing else: no data, no model, no settings of a developer."""
    from azure.ai.ml._utils._asset_utils import get_ignore_file, get_upload_files_from_folder

    files = get_upload_files_from_folder(ROOT / "sentiment", prefix="sentiment/")
    ignore = get_ignore_file(ROOT)
    for folder in ("azureml", "docs", "localhost", "seed-model", "tests"):
        assert not get_upload_files_from_folder(ROOT / folder, prefix=f"{folder}/", ignore_file=ignore)
    assert ignore.is_file_excluded(ROOT / "local.settings.json")
    assert ignore.is_file_excluded(ROOT / ".localhost" / "secrets.json")
    kept = get_upload_files_from_folder(ROOT / "sentiment", prefix="sentiment/", ignore_file=ignore)
    names = {Path(path).relative_to(ROOT).as_posix() for path, _ in kept}
    assert {"sentiment/__main__.py", "sentiment/training/run.py", "sentiment/settings.py"} <= names
    assert not any("__pycache__" in name or "/web/" in name for name in names)
    assert len(names) < len(files)


def test_our_request_is_the_one_that_azure_ml_itself_would_send(sdk: ModuleType) -> None:
    """`azureml/job.yml`, resolved and written by the SDK, against what the Function App PUTs."""
    settings = Settings.from_env(
        {
            **STORAGE,
            "AZUREML_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZUREML_RESOURCE_GROUP": GROUP,
            "AZUREML_WORKSPACE": WORKSPACE,
            "AZUREML_COMPUTE": "sentiment-cluster",
            "AZUREML_TOKEN": "token",
        }
    )
    assert settings.azureml is not None
    client = Pipelines(settings.azureml, None, inputs={"storage_account": "NAME", "deploy_mode": "direct"})
    ours = client.body({"storage_account": "NAME", "deploy_mode": "direct", "cycle": "1"})["properties"]
    client.close()
    theirs = _as_the_sdk_sends_it(sdk, AZUREML / "job.yml")
    for empty in ("tags", "properties"):
        assert theirs.pop(empty) == {}
    assert ours == theirs


def _as_the_sdk_sends_it(sdk: ModuleType, path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder
        from azure.ai.ml._scope_dependent_operations import (
            OperationConfig,
            OperationsContainer,
            OperationScope,
        )
        from azure.ai.ml.constants._common import AzureMLResourceType
        from azure.ai.ml.operations._operation_orchestrator import OperationOrchestrator

        resolve = OperationOrchestrator(
            OperationsContainer(),
            OperationScope(SUBSCRIPTION, GROUP, WORKSPACE),
            OperationConfig(show_progress=False, enable_telemetry=False),
        ).get_asset_arm_id
        job = sdk.load_job(path)
        job.component = resolve(job.component, AzureMLResourceType.COMPONENT)
        job.settings.default_compute = resolve(job.settings.default_compute, AzureMLResourceType.COMPUTE)
        for given in job.inputs.values():
            if isinstance(given._data, sdk.Input):
                given._data.path = resolve(given._data.path, AzureMLResourceType.DATA)
        written = json.dumps(job._to_rest_object(), cls=SdkJSONEncoder, exclude_readonly=True)
    properties: dict[str, Any] = json.loads(written)["properties"]
    return properties


def test_the_steps_run_in_an_order_that_keeps_the_loop_safe(pipeline: Pipeline) -> None:
    """Nothing is registered before the gate has spoken, nothing published before it is registered."""
    names = [step.name for step in pipeline.steps]
    assert names[0] == "prepare"
    assert names[-3:] == ["gate", "register", "publish"]
    assert set(names) == {
        "prepare",
        "train",
        "evaluate_champion",
        "evaluate_candidate",
        "gate",
        "register",
        "publish",
    }


def test_the_job_by_hand_gives_what_the_pipeline_needs(pipeline: Pipeline) -> None:
    """And starts the version that stands in the file, which is the setting's default."""
    job = (AZUREML / "job.yml").read_text()
    assert f"component: azureml:{pipeline.name}:{pipeline.version}" in job
    for name, given in pipeline.inputs.items():
        assert not given.required or f"  {name}:" in job
    settings = Settings.from_env(
        {**STORAGE, "AZUREML_WORKSPACE": "w"}
        | {"AZUREML_RESOURCE_GROUP": "g", "AZUREML_SUBSCRIPTION_ID": "s"}
    ).azureml
    assert settings is not None
    assert settings.component == f"{pipeline.name}:{pipeline.version}"


def test_what_the_settings_say_reaches_the_steps(pipeline: Pipeline) -> None:
    """Who promotes, and where models and the loop are kept."""
    bound = {step.name: step.bindings for step in pipeline.steps}
    assert bound["register"]["deploy_mode"] == bound["publish"]["deploy_mode"] == FromParent("deploy_mode")
    for name in ("storage_account", "model_container", "retrain_container"):
        assert bound["prepare"][name] == bound["publish"][name] == FromParent(name)
    for words in _commands(pipeline):
        if words[4] == "register":
            assert words[words.index("--mode") + 1] == "direct"


def _commands(pipeline: Pipeline) -> Iterator[list[str]]:
    for step in pipeline.steps:
        samples = {"integer": "7", "uri_file": "/data/file.tsv", "uri_folder": "/data/folder"}
        given = {
            name: declared.enum[0] if declared.enum else samples.get(declared.type, "name")
            for name, declared in step.inputs.items()
        }
        outputs = {output: f"/out/{output}" for output in step.outputs}
        yield step.words(given, outputs)
        required = {name: given[name] for name, declared in step.inputs.items() if not declared.optional}
        yield step.words(required, outputs)


def test_every_step_is_a_command_of_our_command_line(pipeline: Pipeline) -> None:
    """With its optional parts and without; nothing unresolved is left in it."""
    for words in _commands(pipeline):
        assert words[:4] == ["python", "-m", "sentiment", "step"]
        assert not any(sign in " ".join(words) for sign in ("${{", "$[[", "]]", "}}"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: pipeline", "type: command", "is no pipeline component"),
        ("./components/gate.yml", "./components/gates.yml", "gates.yml cannot be read: No such file"),
        ("outputs.report}}", "outputs.reports}}", "gate has no output reports"),
        ("parent.inputs.cycle}}", "parent.inputs.round}}", "the pipeline has no input round"),
        ("      champion: ${{", "      winner: ${{", "gate.yml has no input winner"),
        ("      folder: champion\n", "", "evaluate_champion: folder is not given"),
        ("${{parent.jobs.prepare.outputs.data}}", "${{secrets.data}}", "is not understood here"),
        (
            "inputs:\n  cycle:\n    type: integer",
            "inputs:\n  cycle:\n    type: mltable",
            "'mltable' is not known",
        ),
        (
            "data: ${{parent.jobs.prepare.outputs.data}}",
            "data: ${{parent.jobs.train.outputs.model}}",
            "each other",
        ),
    ],
)
def test_what_cannot_run_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The file and the place in it."""
    text = (AZUREML / "pipeline.yml").read_text()
    assert old in text
    (tmp_path / "components").symlink_to(AZUREML / "components")
    (tmp_path / "pipeline.yml").write_text(text.replace(old, new))
    with pytest.raises(LocalhostError, match=message) as caught:
        read_pipeline(tmp_path / "pipeline.yml")
    assert ".yml" in str(caught.value)
