"""Where the storage SDKs' errors become ours: once, for blobs, queues and tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from azure.core.exceptions import AzureError, HttpResponseError

from sentiment.errors import StoreUnavailable


@contextmanager
def storage_errors(operation: str) -> Iterator[None]:
    """Raise `StoreUnavailable`, naming `operation`, for whatever the SDK raises in the context."""
    try:
        yield
    except AzureError as error:
        # Of what the SDK says, the first line is for people; the rest is request numbers.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StoreUnavailable(operation, said) from error


def error_code(error: HttpResponseError) -> str:
    """Return the code that storage gave with an error, empty where it gave none."""
    code = getattr(error, "error_code", None)
    # A plain string or a member of the SDK's string enumeration.
    return str(getattr(code, "value", code) or "")
