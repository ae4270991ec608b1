"""Key-ASTROM: the environment API v2 (events, event types, problems), which mirrors Dynatrace Managed."""

from datetime import timedelta

from exporter.vendorkit.contract import Vendor
from exporter.vendors.key_astrom.advice import REMEDIES, requests_per_day
from exporter.vendors.key_astrom.auth import auth_for
from exporter.vendors.key_astrom.config import KeyAstromConfig
from exporter.vendors.key_astrom.normalise import LABELS
from exporter.vendors.key_astrom.source import KeyAstromSource
from exporter.vendors.key_astrom.vocabulary import VOCABULARY

VENDOR = Vendor(
    name="key_astrom",
    config=KeyAstromConfig,
    auth=auth_for,
    source=KeyAstromSource,
    labels=LABELS,
    endpoints=("events", "event_types", "problems"),
    resolution=timedelta(milliseconds=1),
    vocabulary=VOCABULARY,
    requests_per_day=requests_per_day,
    remedies=REMEDIES,
    lookback=lambda config: config.lookback,
)
