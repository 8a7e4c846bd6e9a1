"""Everything that this product raises on purpose.

    SentimentError
    ├── SettingsError            a setting is missing or malformed           (.key)
    ├── InvalidInput             what a caller sent cannot be answered       (.pointer, .code)
    │   ├── MalformedJson        the body is not JSON                        (.offset)
    │   ├── BodyTooLarge         more bytes than are read
    │   └── UnsupportedMediaType the body is not declared as JSON
    ├── InvalidToken             a prediction token fails a check            (.check)
    ├── InvalidMessage           a queue message can never be stored         (.reason)
    ├── CorrectionNotFound       no correction has this id                   (.id)
    ├── DataError                a data file cannot be used                  (.path, .line)
    ├── ModelError
    │   ├── InvalidModel         a model folder is incomplete or altered     (.folder, .file)
    │   ├── ModelNotFound        no such version, or no champion yet         (.version)
    │   ├── ModelConflict        a version exists with other content, or the
    │   │                        champion changed meanwhile                  (.version)
    │   ├── VersionRefused       a version must never be promoted (again)    (.version, .reason)
    │   └── ExportError          an exported model lost too much
    ├── DeploymentError          a candidate was not handed to its deployment (.operation)
    │   ├── DeploymentUnavailable the service did not answer; worth another try
    │   └── DeploymentRefused    it refused: somebody has to mend a setting or a right
    ├── RetrainError
    │   ├── CycleConflict        a cycle cannot be started or cancelled now
    │   └── DamagedRecord        a record of the loop cannot be read         (.name)
    ├── PipelineError
    │   ├── PipelineUnavailable  Azure ML did not answer; worth another try  (.operation)
    │   └── PipelineRefused      Azure ML refuses, and will go on refusing   (.operation)
    └── StoreUnavailable         storage did not answer; worth another try   (.operation)

Each carries data beside its message: what was wrong, where, and what to do.
"""

from __future__ import annotations

from pathlib import Path


class SentimentError(Exception):
    """The root: catch this to catch everything raised on purpose."""


class SettingsError(SentimentError):
    """A setting is missing or malformed; `key` names it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key} {message}")
        self.key = key


class InvalidInput(SentimentError):
    """What a caller sent cannot be answered.

    `code` is a short stable word for programs, `pointer` a JSON Pointer
    (RFC 6901) to the place, empty for the whole document.
    """

    status = 400
    title = "Invalid request"

    def __init__(self, code: str, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.pointer = pointer


class MalformedJson(InvalidInput):
    """The body is not JSON; `offset` is the byte where reading failed."""

    title = "Malformed JSON"

    def __init__(self, detail: str, offset: int) -> None:
        super().__init__("malformed-json", detail)
        self.offset = offset


class BodyTooLarge(InvalidInput):
    """The body has more bytes than are read."""

    status = 413
    title = "Request body too large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            "body-too-large",
            f"The body has {size:,} bytes, at most {limit:,} are read: send several smaller requests.",
        )


class UnsupportedMediaType(InvalidInput):
    """The body is not declared as JSON in UTF-8."""

    status = 415
    title = "Unsupported media type"

    def __init__(self, content_type: str) -> None:
        said = f"got {content_type!r}" if content_type else "the header is missing"
        super().__init__(
            "unsupported-media-type", f"Send JSON in UTF-8 with 'Content-Type: application/json'; {said}."
        )


class InvalidToken(SentimentError):
    """A prediction token fails a check; `check` says which."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


class InvalidMessage(SentimentError):
    """A message on the queue can never become a correction; `reason` is a short stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CorrectionNotFound(SentimentError):
    """No correction has this id, here or on its way."""

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no correction with the id {id!r}.")
        self.id = id


class DataError(SentimentError):
    """A data file cannot be used; `path` and `line` (from 1, 0 for the whole file) say where."""

    def __init__(self, path: Path | str, line: int, message: str) -> None:
        super().__init__(f"{path}{f', line {line}' if line else ''}: {message}")
        self.path = Path(path)
        self.line = line


class ModelError(SentimentError):
    """The root of what can be wrong with a model or its versions."""


class InvalidModel(ModelError):
    """A model folder is incomplete, altered or not one of ours; `file` names the culprit."""

    def __init__(self, folder: Path | str, file: str, message: str) -> None:
        super().__init__(f"model {folder}: {file}: {message}")
        self.folder = str(folder)
        self.file = file


class ModelNotFound(ModelError):
    """There is no such version in the store; `version` is None when there is no champion yet."""

    def __init__(self, version: str | None, message: str) -> None:
        super().__init__(message)
        self.version = version


class ModelConflict(ModelError):
    """A version exists with other content, or the champion changed since it was read."""

    def __init__(self, version: str, message: str) -> None:
        super().__init__(message)
        self.version = version


class ExportError(ModelError):
    """An exported model lost too much against the one it was made from."""


class VersionRefused(ModelError):
    """A version must never be promoted (again); `reason` says why."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(
            f"{version} was refused for good: {reason} (what is in `refused/` is never promoted: "
            "retrain, and publish under another version)"
        )
        self.version = version
        self.reason = reason


class DeploymentError(SentimentError):
    """A candidate was not handed to its deployment; `operation` says what was being asked of whom."""

    def __init__(self, operation: str, message: str) -> None:
        super().__init__(f"{operation}: {message}")
        self.operation = operation


class DeploymentUnavailable(DeploymentError):
    """The deployment's service did not answer, or not now; the same call may go through later."""


class DeploymentRefused(DeploymentError):
    """The deployment's service refused, and will again until a setting or a right is mended."""


class RetrainError(SentimentError):
    """The root of what can be wrong with the retraining loop."""


class CycleConflict(RetrainError):
    """A cycle cannot be started or cancelled now: another is running, or another tick is at work."""


class DamagedRecord(RetrainError):
    """A record in the container of the retraining loop cannot be read; `name` is its blob."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class StoreUnavailable(SentimentError):
    """Storage did not answer, or refused for now; the same call may go through later."""

    def __init__(self, operation: str, message: str) -> None:
        super().__init__(f"{operation}: {message}")
        self.operation = operation


class PipelineError(SentimentError):
    """The root of what can be wrong with a call to Azure ML; `operation` says which call."""

    def __init__(self, operation: str, message: str) -> None:
        super().__init__(f"{operation}: {message}")
        self.operation = operation


class PipelineUnavailable(PipelineError):
    """Azure ML did not answer, or refused for now; the same call may go through later."""


class PipelineRefused(PipelineError):
    """Azure ML refuses the call, and will until somebody mends what the message names."""
