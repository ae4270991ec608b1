"""Huawei Cloud AOM (Application Operations Management): events and alarms, API v2, and their notices."""

from datetime import timedelta

from exporter.vendorkit.contract import Vendor
from exporter.vendors.huawei_aom.advice import REMEDIES, requests_per_day
from exporter.vendors.huawei_aom.auth import auth_for
from exporter.vendors.huawei_aom.config import HuaweiAomConfig
from exporter.vendors.huawei_aom.normalise import LABELS
from exporter.vendors.huawei_aom.source import HuaweiAomSource
from exporter.vendors.huawei_aom.vocabulary import VOCABULARY

VENDOR = Vendor(
    name="huawei_aom",
    config=HuaweiAomConfig,
    auth=auth_for,
    source=HuaweiAomSource,
    labels=LABELS,
    endpoints=("list_events", "list_notified_histories", "create_token"),
    resolution=timedelta(milliseconds=1),
    vocabulary=VOCABULARY,
    requests_per_day=requests_per_day,
    remedies=REMEDIES,
)
