"""One table of Table Storage: the border where the SDK's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError

from sentiment.storage import error_code, storage_errors

if TYPE_CHECKING:
    from azure.data.tables import TableClient

Row = dict[str, Any]
Columns = list[str]
#: "put" creates a row or writes over whatever is there.
Change = tuple[Literal["create", "replace", "delete", "put"], Row]


class Table:
    """Rows by partition and key; safe to share between threads.

    The table is created when it is first written to. Every method raises
    `StoreUnavailable` where storage does not answer.
    """

    def __init__(self, client: TableClient) -> None:
        self._client = client

    def change(self, changes: Sequence[Change], *, etag: str | None = None) -> bool:
        """Make all changes, of one partition, or none.

        `etag` is a condition on the first. False when a row that is to be created
        is there, one that is to be replaced or deleted is gone, or the condition
        does not hold.
        """
        # Imported when it is first needed, as the clients are.
        from azure.data.tables import UpdateMode

        operations: list[Any] = []
        for number, (kind, row) in enumerate(changes):
            condition: dict[str, Any] = {}
            if kind in ("replace", "put"):
                condition["mode"] = UpdateMode.REPLACE
            if etag is not None and number == 0:
                condition |= {"etag": etag, "match_condition": MatchConditions.IfNotModified}
            operations.append((_OPERATIONS.get(kind, kind), row, condition))
        with storage_errors(f"write {self._client.table_name}"):
            try:
                self._client.submit_transaction(operations)
            except HttpResponseError as error:
                if error_code(error) == "TableNotFound":
                    if any(kind in ("replace", "delete") for kind, _ in changes):
                        return False
                    with suppress(ResourceExistsError):
                        self._client.create_table()
                    self._client.submit_transaction(operations)
                    return True
                if error.status_code in (404, 409, 412) and error_code(error) in _REFUSED:
                    return False
                raise
        return True

    def read(self, partition: str, key: str) -> Row | None:
        """Return a row, with its ETag under "etag", or None."""
        with storage_errors(f"read {self._client.table_name}"):
            try:
                entity = self._client.get_entity(partition, key)
            except HttpResponseError as error:
                if error_code(error) in ("ResourceNotFound", "EntityNotFound", "TableNotFound"):
                    return None
                raise
            return _row(entity)

    def list(
        self, partition: str | None, first: str = "", beyond: str = "", *, select: Columns | None = None
    ) -> Iterator[Row]:
        """Yield the rows of a partition (None: of all) with keys from `first` on and below `beyond`."""
        conditions, parameters = [], {}
        for name, value, condition in (
            ("partition", partition, "PartitionKey eq @partition"),
            ("first", first, "RowKey ge @first"),
            ("beyond", beyond, "RowKey lt @beyond"),
        ):
            if value:
                conditions.append(condition)
                parameters[name] = value
        with storage_errors(f"list {self._client.table_name}"):
            try:
                if conditions:
                    entities = self._client.query_entities(
                        " and ".join(conditions), parameters=parameters, select=select
                    )
                else:
                    entities = self._client.list_entities(select=select)
                for entity in entities:
                    yield _row(entity)
            except HttpResponseError as error:
                if error_code(error) != "TableNotFound":
                    raise


# As the SDK calls them.
_OPERATIONS = {"replace": "update", "put": "upsert"}

_REFUSED = (
    "EntityAlreadyExists",
    "ResourceNotFound",
    "EntityNotFound",
    "UpdateConditionNotSatisfied",
    "ConditionNotMet",
)


def _row(entity: Mapping[str, Any]) -> Row:
    metadata = getattr(entity, "metadata", {})
    return {**entity, "etag": metadata.get("etag")}
