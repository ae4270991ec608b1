"""Baidu AI Cloud: alarm records of the Log Service (BLS), API version 1 (ListAlarmRecord, DescribeAlarmRecord)."""

from datetime import timedelta

from exporter.vendorkit.contract import Vendor
from exporter.vendors.baidu_bls.advice import REMEDIES, requests_per_day
from exporter.vendors.baidu_bls.auth import auth_for
from exporter.vendors.baidu_bls.config import BaiduBlsConfig
from exporter.vendors.baidu_bls.normalise import LABELS
from exporter.vendors.baidu_bls.source import BaiduBlsSource
from exporter.vendors.baidu_bls.vocabulary import VOCABULARY

VENDOR = Vendor(
    name="baidu_bls",
    config=BaiduBlsConfig,
    auth=auth_for,
    source=BaiduBlsSource,
    labels=LABELS,
    endpoints=("list_alarm_record", "describe_alarm_record"),
    resolution=timedelta(seconds=1),
    vocabulary=VOCABULARY,
    requests_per_day=requests_per_day,
    remedies=REMEDIES,
)
