"""Everything an operator can set; alone reads the configuration file and the environment."""

from exporter.config.keys import (
    FLAGS,
    PREFIX,
    Config,
    Format,
    Grouping,
    Level,
    Log,
    Metrics,
    Owner,
    Shard,
    Watching,
    Web,
    address_from,
    variable_for,
)
from exporter.config.layers import file_from, load, load_web
from exporter.config.schema import schema
from exporter.exposition.otel_settings import Otlp

__all__ = [
    "FLAGS",
    "PREFIX",
    "Config",
    "Format",
    "Grouping",
    "Level",
    "Log",
    "Metrics",
    "Otlp",
    "Owner",
    "Shard",
    "Watching",
    "Web",
    "address_from",
    "file_from",
    "load",
    "load_web",
    "schema",
    "variable_for",
]
