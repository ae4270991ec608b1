"""BlueKing's documented words: what may stay in a capture (bk-monitor, docs/api and constants; ESB errors)."""

import re

from exporter.vendorkit.cleaning import Vocabulary, words
from exporter.vendors.blueking.client import CREDENTIALS, TOO_LONG
from exporter.vendors.blueking.normalise import (
    CHANNELS,
    HELD_BACK,
    IN_PROGRESS,
    OPERATIONS,
    RESULTS,
    ROW_STATES,
    STATES,
)

VOCABULARY = Vocabulary(
    values=words(
        OPERATIONS,
        STATES,
        ROW_STATES,
        CHANNELS,
        IN_PROGRESS,
        RESULTS,
        HELD_BACK,
        # severity, and ids that mean "none" or "all"
        "0 1 2 3 -1",
        # status of search_alert, groups of `overview`, names of `aggs`
        "MINE NOT_SHIELDED_ABNORMAL SHIELDED_ABNORMAL MY_ASSIGNEE MY_APPOINTEE MY_FOLLOW alert action severity status",
        # failure_type and signal of search_action
        "execute_failure timeout create_failure callback_failure user_abort system_abort blocked "
        "framework_code_failure unknown manual abnormal recovered closed ack no_data collect execute_success "
        "execute_failed demo unshielded upgrade incident",
        # action_plugin_type
        "notice webhook job sops bk_itsm bk_incident message_queue",
        # target_type and data_type
        "HOST SERVICE TOPO SET_TEMPLATE SERVICE_TEMPLATE time_series event log alert bk_monitor",
        # conditions and ordering of both lists
        "eq neq include exclude gt gte lt lte and or severity id create_time end_time update_time parent_action_id "
        "action_plugin_type begin_time",
        # envelope, codes of partial answers
        "OK alert_search_timeout alert_search_shard_failure alerts total overview aggs RATE_LIMIT_RESTRICTION",
        # what stands behind bkchat| in notice_way
        "WEWORK wecom_robot rtx",
    ),
    ids=frozenset(
        "id event_id alert_id alert_ids value bk_biz_id bk_biz_ids raw_id parent_action_id converge_id strategy_id "
        "shield_id seq_id dedupe_md5 request_id bk_host_id bk_cloud_id plugin_id".split()
    ),
    numbers=frozenset("code total count anomaly_count ack_duration page page_size severity".split()),
    maps=frozenset("dimensions tags labels notify_info".split()),
    keywords=(CREDENTIALS, re.compile(TOO_LONG)),
    headers=frozenset({"x-bkapi-error-code", "x-bkapi-ratelimit-reset"}),
)
