"""One container of Blob Storage: the border where the SDK's errors become ours."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from sentiment.storage import error_code, storage_errors

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

# What storage itself says of a name that is not there, and of a condition that does
# not hold. The same status can come from a proxy in between, or mean something else.
_MISSING = ("BlobNotFound", "ContainerNotFound")
_REFUSED = ("BlobAlreadyExists", "ConditionNotMet")
# The same where a lease is held: by somebody else, or no longer by whoever held it.
_LEASED = (
    "LeaseAlreadyPresent",
    "LeaseIdMissing",
    "LeaseIdMismatchWithBlobOperation",
    "LeaseIdMismatchWithLeaseOperation",
    "LeaseNotPresentWithBlobOperation",
    "LeaseNotPresentWithLeaseOperation",
    "LeaseLost",
)

# The SDK sends a body under the connection timeout, all of it, which is meant for a
# handshake: a large file on a slow line (in bytes a second) needs more.
_LARGE = 1_000_000
_SLOW_LINE = 100_000


class Content(NamedTuple):
    """What a blob held when it was read, and the ETag that replacing it is conditional on."""

    data: bytes
    etag: str


class Blobs:
    """The blobs of one container, by name; safe to share between threads.

    Writes are conditional, all of them: a blob is created where there is none, or
    replaced where it is still the one that was read. Every method raises
    `StoreUnavailable` where storage does not answer.
    """

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    @property
    def container(self) -> str:
        """The container's name."""
        return str(self._container.container_name)

    def create_container(self) -> None:
        """Create the container if it is not there yet."""
        with storage_errors(f"find the container {self.container}"):
            if not self._container.exists():
                with suppress(ResourceExistsError):
                    self._container.create_container()

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`; none where there is no container."""
        with storage_errors(f"list {self.container}/{prefix}"):
            try:
                return list(self._container.list_blob_names(name_starts_with=prefix))
            except ResourceNotFoundError as error:
                if error_code(error) in _MISSING:
                    return []
                raise

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size in bytes of each blob whose name begins with `prefix`."""
        with storage_errors(f"list {self.container}/{prefix}"):
            return {blob.name: blob.size for blob in self._container.list_blobs(name_starts_with=prefix)}

    def read(self, name: str) -> Content | None:
        """Return a blob's content, or None where there is none."""
        return self._read(name)

    def read_if_changed(self, name: str, etag: str) -> Content | None:
        """Return a blob's content, with one request; with `etag` and no data while that is still its ETag."""
        return self._read(name, etag=etag, match_condition=MatchConditions.IfModified)

    def _read(self, name: str, **condition: Any) -> Content | None:
        with storage_errors(f"read {name}"):
            try:
                stream = self._container.download_blob(name, **condition)
                return Content(stream.readall(), str(stream.properties.etag))
            except HttpResponseError as error:
                if error.status_code == 304:
                    return Content(b"", condition["etag"])
                if error_code(error) in _MISSING:
                    return None
                raise

    def download(self, name: str, target: Path, size: int) -> int | None:
        """Write a blob to `target` if it has `size` bytes; return how many it has, None where there is none.

        A blob of another size is not read: it may be of any size.
        """
        with storage_errors(f"read {name}"):
            try:
                stream = self._container.download_blob(name, max_concurrency=4)
                if stream.size == size:
                    with target.open("wb") as file:
                        stream.readinto(file)
            except ResourceNotFoundError as error:
                if error_code(error) in _MISSING:
                    return None
                raise
            return int(stream.size)

    def create(self, name: str, data: bytes) -> bool:
        """Write a blob that is not there yet (If-None-Match: *); False when it is.

        False can also mean that it was done and nobody heard of it: the SDK repeats a
        request whose answer was lost, and then meets its own work. Look at the content.
        """
        return self._write(name, data, overwrite=False)

    def replace(self, name: str, data: bytes, etag: str, *, lease: str | None = None) -> bool:
        """Write over a blob while its ETag is `etag` (If-Match); False when it is another.

        `lease` is what `lease` returned; False as well when that has run out, and
        without it when somebody holds one. As with `create`, False can also mean
        that it was done.
        """
        condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        return self._write(name, data, overwrite=True, **condition, **({"lease": lease} if lease else {}))

    def delete(self, name: str) -> None:
        """Remove a blob; one that is not there is no error."""
        with storage_errors(f"delete {name}"):
            try:
                self._container.delete_blob(name)
            except ResourceNotFoundError as error:
                if error_code(error) not in _MISSING:
                    raise

    def lease(self, name: str, seconds: int, *, lease: str | None = None) -> str | None:
        """Keep everybody else from writing a blob that is there, for 15 to 60 seconds; None when it is kept.

        It ends by itself, so that a process that died holds nobody up for longer;
        with `lease`, one that was had before goes on, or begins anew.
        """
        with storage_errors(f"lease {name}"):
            try:
                return str(self._container.get_blob_client(name).acquire_lease(seconds, lease_id=lease).id)
            except HttpResponseError as error:
                if error_code(error) in _LEASED:
                    return None
                raise

    def release(self, name: str, lease: str) -> None:
        """Give a lease back before its time; one that was lost is no error."""
        from azure.storage.blob import BlobLeaseClient

        with storage_errors(f"release {name}"):
            try:
                BlobLeaseClient(self._container.get_blob_client(name), lease_id=lease).release()
            except HttpResponseError as error:
                if error_code(error) not in _LEASED:
                    raise

    def _write(self, name: str, data: bytes, **options: Any) -> bool:
        if len(data) >= _LARGE:
            options["connection_timeout"] = options["read_timeout"] = len(data) / _SLOW_LINE
        with storage_errors(f"write {name}"):
            try:
                self._container.upload_blob(name, data, **options)
            except HttpResponseError as error:
                if error_code(error) in _REFUSED + _LEASED:
                    return False
                raise
            return True
