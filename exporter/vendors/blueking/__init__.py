"""BlueKing Monitor V3 (蓝鲸监控): search_alert, get_event_log and search_action, by ESB or by API gateway."""

from datetime import timedelta

from exporter.vendorkit.contract import Vendor
from exporter.vendors.blueking.advice import REMEDIES, requests_per_day
from exporter.vendors.blueking.auth import auth_for
from exporter.vendors.blueking.config import BluekingConfig
from exporter.vendors.blueking.normalise import LABELS
from exporter.vendors.blueking.source import BluekingSource
from exporter.vendors.blueking.vocabulary import VOCABULARY

VENDOR = Vendor(
    name="blueking",
    config=BluekingConfig,
    auth=auth_for,
    source=BluekingSource,
    labels=LABELS,
    endpoints=("search_alert", "get_event_log", "search_action"),
    resolution=timedelta(seconds=1),
    vocabulary=VOCABULARY,
    requests_per_day=requests_per_day,
    remedies=REMEDIES,
    lookback=lambda config: config.lookback,
)
