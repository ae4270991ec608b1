"""Baidu AI Cloud: alarm records of the Log Service (BLS), API version 1 (ListAlarmRecord, DescribeAlarmRecord)."""

from datetime import timedelta

from exporter.model.alert import CloseReason
from exporter.model.facts import LabelSets
from exporter.model.records import Channel, FailureReason, Suppression
from exporter.vendorkit.contract import Vendor
from exporter.vendors.baidu_bls.advice import REMEDIES, requests_per_day
from exporter.vendors.baidu_bls.auth import auth_for
from exporter.vendors.baidu_bls.config import BaiduBlsConfig
from exporter.vendors.baidu_bls.normalise import CHANNELS, SEVERITIES, SUPPRESSIONS
from exporter.vendors.baidu_bls.source import BaiduBlsSource
from exporter.vendors.baidu_bls.vocabulary import VOCABULARY

VENDOR = Vendor(
    name="baidu_bls",
    title="Baidu AI Cloud BLS",
    config=BaiduBlsConfig,
    auth=auth_for,
    source=BaiduBlsSource,
    labels=LabelSets(
        severities=tuple(SEVERITIES.values()),
        close_reasons=(CloseReason.RECOVERED, CloseReason.CLOSED, CloseReason.VANISHED),
        channels=(*CHANNELS.values(), Channel.WEBHOOK, Channel.OTHER, Channel.UNKNOWN),
        failure_reasons=tuple(reason for reason in FailureReason if reason is not FailureReason.NOT_SUBSCRIBED),
        suppressions=(*SUPPRESSIONS.values(), Suppression.OTHER),
        unmapped=("state", "severity", "time", "close_reason", "channel", "notice_state"),
        lists=("list_alarm_record",),
    ),
    endpoints=("list_alarm_record", "describe_alarm_record"),
    resolution=timedelta(seconds=1),
    vocabulary=VOCABULARY,
    requests_per_day=requests_per_day,
    remedies=REMEDIES,
)
