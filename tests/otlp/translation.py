"""What a Prometheus makes of OTLP metrics, by its rules for names, units and types.

Prometheus documentation, "Using Prometheus as your OpenTelemetry backend"; OpenTelemetry specification, "Prometheus and
OpenMetrics Compatibility".
"""

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def name_of(metric: Any) -> str:
    """The name of a series without the suffixes of a histogram's."""
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", metric.name)
    kind = metric.WhichOneof("data")
    unit = {"s": "seconds", "1": "ratio"}.get(metric.unit, "")
    assert unit or re.fullmatch(r"\{\w+\}", metric.unit), metric.unit
    if unit and unit not in name.split("_"):
        name += f"_{unit}"
    return name + ("_total" if kind == "sum" and metric.sum.is_monotonic else "")


def metrics_of(body: bytes) -> Iterator[Any]:
    for about in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for scope in about.scope_metrics:
            yield from scope.metrics


def series_of(*bodies: bytes) -> Series:
    """Every series; fails where two are the same."""
    found: Series = {}

    def add(name: str, labels: dict[str, str], value: float) -> None:
        key = name, frozenset(labels.items())
        assert key not in found, key
        found[key] = value

    for metric in (metric for body in bodies for metric in metrics_of(body)):
        name, data = name_of(metric), getattr(metric, metric.WhichOneof("data"))
        for point in data.data_points:
            labels = {pair.key: pair.value.string_value for pair in point.attributes}
            assert len(labels) == len(point.attributes)
            if metric.WhichOneof("data") != "histogram":
                add(name, labels, getattr(point, point.WhichOneof("value")))
                continue
            bounds = [*map(str, point.explicit_bounds), "+Inf"]
            for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
                add(f"{name}_bucket", labels | {"le": bound}, count)
            add(f"{name}_sum", labels, point.sum)
            add(f"{name}_count", labels, point.count)
    return found
