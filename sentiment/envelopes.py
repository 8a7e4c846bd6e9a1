"""What Application Insights is told, and how: one JSON envelope for each event and each metric.

The fields are those of the `applicationinsights` package's contracts. Its client,
channel and sender are left aside: the client names the machine in every envelope,
and the sender re-sends for ever (see `ingestion`).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

#: The service cuts longer property values; what is cut here is not sent in vain.
_LONGEST_VALUE = 8_192
_AGGREGATION = 1  # a data point of several observations, as `DataPointType.aggregation`


class Event(NamedTuple):
    """Something that happened once, at `time` (seconds since 1970).

    `sample_rate` is the percentage of such events that are sent: the service
    counts each as ``100 / sample_rate`` of them (`itemCount`).
    """

    name: str
    time: float
    operation_id: str | None
    properties: dict[str, str]
    measurements: dict[str, float]
    sample_rate: float = 100.0


class Metric:
    """What was observed of one figure since it was last sent: the observations themselves are not kept."""

    __slots__ = ("count", "largest", "name", "properties", "smallest", "squares", "time", "total")

    def __init__(self, name: str, properties: dict[str, str], time: float) -> None:
        self.name = name
        self.properties = properties
        self.time = time
        self.count = 0
        self.total = self.squares = 0.0
        self.smallest, self.largest = math.inf, -math.inf

    def observe(self, value: float) -> None:
        """Take one more value into account."""
        self.count += 1
        self.total += value
        self.squares += value * value
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)

    @property
    def deviation(self) -> float:
        """The standard deviation of the population."""
        mean = self.total / self.count
        return math.sqrt(max(0.0, self.squares / self.count - mean * mean))


def encode(item: Event | Metric, instrumentation_key: str) -> bytes:
    """Return `item` as one line of JSON, without the line's end."""
    # Imported with the first envelope, in the sender's thread: without telemetry it is not needed.
    from applicationinsights.channel import contracts

    data = contracts.EventData() if isinstance(item, Event) else contracts.MetricData()
    data.properties = {key: value[:_LONGEST_VALUE] for key, value in item.properties.items()}
    envelope = contracts.Envelope()
    if isinstance(item, Event):
        data.name = item.name
        data.measurements = item.measurements
        envelope.sample_rate = item.sample_rate
        if item.operation_id is not None:
            operation = contracts.Operation()
            operation.id = item.operation_id
            envelope.tags = dict(operation.write())
    else:
        point = contracts.DataPoint()
        point.name = item.name
        point.kind = _AGGREGATION
        point.value, point.count = item.total, item.count
        point.min, point.max, point.std_dev = item.smallest, item.largest, item.deviation
        data.metrics = [point]
    envelope.name = data.ENVELOPE_TYPE_NAME
    envelope.time = datetime.fromtimestamp(item.time, UTC).isoformat().replace("+00:00", "Z")
    envelope.ikey = instrumentation_key
    envelope.data = contracts.Data()
    envelope.data.base_type = data.DATA_TYPE_NAME
    envelope.data.base_data = data
    return msgspec.json.encode(envelope.write())
