"""Everything an operator can set; alone reads the configuration file and the environment."""

from exporter.config.keys import (
    FLAGS,
    Config,
    Grouping,
    Level,
    Metrics,
    Owner,
    Shard,
    address_from,
    record_limits,
    variable_for,
)
from exporter.config.layers import file_from, load, load_web
from exporter.config.schema import schema

__all__ = ["FLAGS", "Config", "Grouping", "Level", "Metrics", "Owner", "Shard", "address_from", "variable_for"]
__all__ += ["file_from", "load", "load_web", "record_limits", "schema"]
