"""What is published is whole or not there, and what is fetched was verified."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerClient

from localhost.azurite import Azurite
from sentiment.errors import InvalidModel, ModelConflict, ModelNotFound, StoreUnavailable
from sentiment.manifest import MANIFEST, ONNX, SERVING_FILES, WEIGHTS, read_manifest
from sentiment.registry import ModelRegistry
from tests.models import make_model_folder, seal
from tests.wire import ProcessDied, Wire

HERE = Path(__file__).parent
WHO = {"by": "test", "reason": "to see"}


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def container(azurite: Azurite, wire: Wire) -> Iterator[ContainerClient]:
    with wire.open(azurite) as container:
        yield container


@pytest.fixture
def registry(container: ContainerClient, tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(container, tmp_path / "cache")


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path / "one", "tiny-1", "positive", created_at="2025-01-01T00:00:00+00:00")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return make_model_folder(
        tmp_path / "two", "tiny-2", "negative", macro_recall=0.6, created_at="2025-02-01T00:00:00+00:00"
    )


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _stored(container: ContainerClient) -> dict[str, bytes]:
    return {name: container.download_blob(name).readall() for name in container.list_blob_names()}


def _digest(folder: Path) -> str:
    return read_manifest(folder)[1]


def _all_files(folder: Path) -> tuple[str, ...]:
    return tuple(read_manifest(folder)[0].files)


# --- publish ----------------------------------------------------------------


def test_a_published_version_comes_back_byte_for_byte(registry: ModelRegistry, one: Path) -> None:
    """Every file that the manifest lists, and the manifest itself."""
    assert registry.publish(one) == "tiny-1"
    assert _contents(registry.fetch("tiny-1", files=_all_files(one))) == _contents(one)


def test_the_manifest_is_written_last(registry: ModelRegistry, wire: Wire, one: Path) -> None:
    registry.publish(one)
    written = wire.of("PUT")
    assert written[-1] == f"tiny-1/{MANIFEST}"
    assert sorted(written[:-1]) == sorted(f"tiny-1/{name}" for name in _all_files(one))


def test_publishing_again_writes_nothing(registry: ModelRegistry, wire: Wire, one: Path) -> None:
    registry.publish(one)
    wire.forget()
    assert registry.publish(one) == "tiny-1"
    assert wire.of("PUT") == []


def test_publishing_makes_the_container_where_there_is_none(
    azurite: Azurite, wire: Wire, tmp_path: Path, one: Path
) -> None:
    with wire.open(azurite, f"t{os.urandom(8).hex()}") as container:
        registry = ModelRegistry(container, tmp_path / "cache")
        assert registry.versions() == []
        with pytest.raises(ModelNotFound):
            registry.champion()
        registry.publish(one)
        assert [version.version for version in registry.versions()] == ["tiny-1"]


def test_a_published_version_is_never_overwritten(
    registry: ModelRegistry, container: ContainerClient, one: Path, tmp_path: Path
) -> None:
    """Other content under the same version is a conflict and changes nothing in the store."""
    registry.publish(one)
    before = _stored(container)
    other = make_model_folder(tmp_path / "other", "tiny-1", "negative")
    with pytest.raises(ModelConflict, match=r"tiny-1/manifest\.json .* other content") as caught:
        registry.publish(other)
    assert caught.value.version == "tiny-1"
    assert _stored(container) == before


def test_an_unfinished_upload_of_other_content_is_not_completed(
    registry: ModelRegistry, container: ContainerClient, one: Path, tmp_path: Path
) -> None:
    """Files of two models never end up under one manifest, and nothing is added to the other's."""
    other = make_model_folder(tmp_path / "other", "tiny-1", "negative")
    container.upload_blob(f"tiny-1/{ONNX}", (other / ONNX).read_bytes())
    with pytest.raises(ModelConflict, match=r"tiny-1/onnx/model\.onnx"):
        registry.publish(one)
    assert list(container.list_blob_names()) == [f"tiny-1/{ONNX}"]


def test_two_publishers_of_different_content_cannot_mix(
    azurite: Azurite, container: ContainerClient, tmp_path: Path
) -> None:
    """Both see an empty store before either writes: at most one version is published, and it is whole."""
    folders = {
        bias: make_model_folder(tmp_path / bias, "tiny-1", bias)  # type: ignore[arg-type]
        for bias in ("negative", "positive")
    }
    both_have_looked = threading.Barrier(2, timeout=20)

    def publish(folder: Path) -> str:
        wire = Wire()
        with wire.open(azurite, container.container_name) as mine:
            wire.on_exchange = lambda exchange: (
                both_have_looked.wait() and None if exchange == ("GET", "", 200) else None
            )
            try:
                return ModelRegistry(mine, tmp_path / "cache").publish(folder)
            except ModelConflict:
                return "conflict"

    with ThreadPoolExecutor(2) as threads:
        outcomes = sorted(threads.map(publish, folders.values()))
    assert outcomes in (["conflict", "conflict"], ["conflict", "tiny-1"])
    if "tiny-1" in outcomes:
        fetched = ModelRegistry(container, tmp_path / "cache").fetch(
            "tiny-1", files=_all_files(folders["negative"])
        )
        assert _contents(fetched) in [_contents(folder) for folder in folders.values()]


def test_a_crash_anywhere_in_publish_can_be_repeated(
    azurite: Azurite, wire: Wire, tmp_path: Path, one: Path
) -> None:
    """Whatever was answered last: the version is not there or whole, and publishing again completes it."""
    crashes = 0
    for number in range(1, 100):
        with wire.open(azurite) as container:
            registry = ModelRegistry(container, tmp_path / f"cache-{number}")
            wire.die_after = number
            try:
                registry.publish(one)
            except ProcessDied:
                crashes += 1
            else:
                break
            wire.forget()
            if registry.versions():
                registry.promote("tiny-1", **WHO)
            else:
                with pytest.raises(ModelNotFound):
                    registry.fetch("tiny-1")
            registry.publish(one)
            assert _contents(registry.fetch("tiny-1", files=_all_files(one))) == _contents(one), number
            registry.promote("tiny-1", **WHO)
    assert crashes >= len(_all_files(one)) + 1, "every file and the manifest were a place to crash"


def test_a_lost_answer_anywhere_in_publish_goes_unnoticed(
    azurite: Azurite, wire: Wire, tmp_path: Path, one: Path
) -> None:
    """The SDK repeats the request and meets what the first one wrote: that is no conflict."""
    number = 0
    exchanges = 1
    while number < exchanges:
        number += 1
        with wire.open(azurite) as container:
            wire.lose = number
            registry = ModelRegistry(container, tmp_path / f"cache-{number}")
            assert registry.publish(one) == "tiny-1", number
            exchanges = len(wire.exchanges) - 1
            assert _contents(registry.fetch("tiny-1", files=_all_files(one))) == _contents(one)
    assert number > len(_all_files(one))


def test_an_altered_folder_is_refused_before_anything_is_written(
    registry: ModelRegistry, wire: Wire, one: Path
) -> None:
    (one / WEIGHTS).write_bytes(b"other weights")
    with pytest.raises(InvalidModel) as caught:
        registry.publish(one)
    assert caught.value.file == WEIGHTS
    assert wire.exchanges == []


@pytest.mark.parametrize(
    "version", ["", "history", "champion.json", "../up", "a/b", "dot.", ".dot", "ü", "x" * 101]
)
def test_a_version_must_be_fit_for_a_folder(
    registry: ModelRegistry, wire: Wire, one: Path, version: str
) -> None:
    """It is refused when publishing, and asking for it is asking for what cannot be there."""
    seal(one, version)
    with pytest.raises(InvalidModel, match="names the version") as caught:
        registry.publish(one)
    assert caught.value.file == MANIFEST
    for ask in (registry.fetch, lambda version: registry.promote(version, **WHO)):
        with pytest.raises(ModelNotFound):
            ask(version)
    assert wire.exchanges == []


def test_versions_are_listed_newest_first(
    registry: ModelRegistry, container: ContainerClient, one: Path, two: Path, tmp_path: Path
) -> None:
    """With what a list shows; an upload without its manifest is no version yet."""
    for folder in (two, one):
        registry.publish(folder)
    registry.promote("tiny-1", **WHO)
    container.upload_blob(f"tiny-3/{ONNX}", b"half an upload")
    container.upload_blob(f"tiny-4/{MANIFEST}", b"no manifest")
    listed = registry.versions()
    assert [version.version for version in listed] == ["tiny-2", "tiny-1"]
    assert [version.champion for version in listed] == [False, True]
    assert [version.macro_recall for version in listed] == [0.6, 0.5]
    assert [version.sha256 for version in listed] == [_digest(two), _digest(one)]


# --- fetch ------------------------------------------------------------------


def test_fetching_what_serves_leaves_the_weights_in_the_store(registry: ModelRegistry, one: Path) -> None:
    registry.publish(one)
    assert set(_contents(registry.fetch("tiny-1"))) == {*SERVING_FILES, MANIFEST}


def test_a_version_on_disk_needs_no_storage(registry: ModelRegistry, wire: Wire, one: Path) -> None:
    registry.publish(one)
    first = registry.fetch("tiny-1", _digest(one))
    wire.forget()
    assert registry.fetch("tiny-1", _digest(one)) == first
    assert wire.exchanges == []


def test_more_files_of_a_version_on_disk_are_added(registry: ModelRegistry, wire: Wire, one: Path) -> None:
    """Only the missing ones are asked for; what was there stays in its place."""
    registry.publish(one)
    first = registry.fetch("tiny-1", _digest(one))
    inode = (first / ONNX).stat().st_ino
    wire.forget()
    assert registry.fetch("tiny-1", _digest(one), (*SERVING_FILES, WEIGHTS)) == first
    assert wire.of("GET") == [f"tiny-1/{WEIGHTS}"]
    assert (first / WEIGHTS).read_bytes() == (one / WEIGHTS).read_bytes()
    assert (first / ONNX).stat().st_ino == inode


def test_a_crash_anywhere_in_fetch_leaves_nothing_half(
    registry: ModelRegistry, wire: Wire, one: Path, tmp_path: Path
) -> None:
    """No folder under the version's name until it is whole, and the next fetch is as good as the first."""
    registry.publish(one)
    entry = tmp_path / "cache" / _digest(one)
    for number in range(1, len(SERVING_FILES) + 2):
        wire.forget()
        wire.die_after = number
        with pytest.raises(ProcessDied):
            registry.fetch("tiny-1")
        assert not entry.exists()
    wire.forget()
    registry.fetch("tiny-1")
    assert set(_contents(entry)) == {*SERVING_FILES, MANIFEST}


@pytest.mark.parametrize("name", SERVING_FILES)
@pytest.mark.parametrize("damage", ["gone", "altered", "cut short", "longer"])
def test_an_altered_or_missing_blob_is_refused_by_name(
    registry: ModelRegistry, container: ContainerClient, one: Path, tmp_path: Path, name: str, damage: str
) -> None:
    registry.publish(one)
    good = (one / name).read_bytes()
    if damage == "gone":
        container.delete_blob(f"tiny-1/{name}")
    else:
        bad = {"altered": good[:-1] + b"?", "cut short": good[:7], "longer": good + b"?"}[damage]
        container.upload_blob(f"tiny-1/{name}", bad, overwrite=True)
    with pytest.raises(InvalidModel) as caught:
        registry.fetch("tiny-1", _digest(one))
    assert caught.value.file == name
    assert caught.value.folder == "tiny-1"
    assert _contents(tmp_path / "cache") == {}


def test_an_altered_manifest_is_refused(
    registry: ModelRegistry, container: ContainerClient, one: Path
) -> None:
    """The champion pointer names its digest, and so vouches for the manifest as that does for the files."""
    registry.publish(one)
    digest = _digest(one)
    container.upload_blob(f"tiny-1/{MANIFEST}", (one / MANIFEST).read_bytes() + b" ", overwrite=True)
    with pytest.raises(InvalidModel) as caught:
        registry.fetch("tiny-1", digest)
    assert caught.value.file == MANIFEST


def test_a_manifest_of_another_version_is_refused(
    registry: ModelRegistry, container: ContainerClient, one: Path, two: Path
) -> None:
    registry.publish(one)
    container.upload_blob(f"tiny-9/{MANIFEST}", (one / MANIFEST).read_bytes())
    with pytest.raises(InvalidModel, match="is that of version 'tiny-1'"):
        registry.fetch("tiny-9")
    registry.fetch("tiny-1")
    with pytest.raises(InvalidModel, match="is that of version 'tiny-1'"):
        registry.fetch("tiny-2", _digest(one))


def test_a_file_that_no_version_has_is_refused(registry: ModelRegistry, one: Path) -> None:
    registry.publish(one)
    with pytest.raises(InvalidModel, match=r"pickle\.pkl: is not among the files"):
        registry.fetch("tiny-1", files=("pickle.pkl",))


def test_two_fetches_that_finish_together_both_succeed(
    azurite: Azurite, registry: ModelRegistry, container: ContainerClient, one: Path, tmp_path: Path
) -> None:
    """Both have everything before either moves its folder into place: the later one joins the first."""
    registry.publish(one)
    together = threading.Barrier(2, timeout=20)

    def fetch(_: int) -> Path:
        wire = Wire()
        with wire.open(azurite, container.container_name) as mine:
            last = f"tiny-1/{SERVING_FILES[-1]}"
            wire.on_exchange = lambda exchange: together.wait() and None if exchange.path == last else None
            return ModelRegistry(mine, tmp_path / "shared").fetch("tiny-1")

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(fetch, range(2))
    assert first == second
    assert set(_contents(first)) == {*SERVING_FILES, MANIFEST}
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [_digest(one)]


def test_two_processes_fetch_at_once(
    azurite: Azurite, registry: ModelRegistry, container: ContainerClient, one: Path, tmp_path: Path
) -> None:
    """Each of them gets the whole version, and they leave one folder behind."""
    registry.publish(one)
    program = (
        "import sys; from pathlib import Path; from azure.storage.blob import ContainerClient\n"
        "from sentiment.registry import ModelRegistry\n"
        "container = ContainerClient.from_connection_string(*sys.argv[1:3])\n"
        "registry = ModelRegistry(container, Path(sys.argv[3]))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(registry.fetch('tiny-1', files=sys.argv[4:]), flush=True)\n"
    )
    arguments = [
        azurite.connection_string,
        container.container_name,
        str(tmp_path / "shared"),
        *_all_files(one),
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        answers = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            answers.append(process.communicate(timeout=60)[0].strip())
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert answers == [str(tmp_path / "shared" / _digest(one))] * 2
    assert _contents(Path(answers[0])) == _contents(one)
    assert len(list((tmp_path / "shared").iterdir())) == 1


def test_where_storage_does_not_answer_every_call_says_so(one: Path, tmp_path: Path) -> None:
    """As one error of ours, with the SDK's behind it."""
    nowhere = Azurite(None, 9, 9, 9, install_folder=tmp_path)
    with Wire().open(nowhere, "models") as container:
        registry = ModelRegistry(container, tmp_path / "cache")
        calls: list[Callable[[], object]] = [
            lambda: registry.publish(one),
            registry.versions,
            lambda: registry.fetch("tiny-1"),
            registry.champion,
            lambda: registry.champion_if_changed('"0x1"'),
            lambda: registry.promote("tiny-1", **WHO),
            lambda: registry.rollback(**WHO),
            registry.history,
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable) as caught:
                call()
            assert isinstance(caught.value.__cause__, AzureError)
            assert caught.value.operation
