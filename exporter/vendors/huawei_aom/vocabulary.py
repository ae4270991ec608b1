"""AOM's documented words: what may stay in a capture ("Querying Events and Alarms", "Error Codes", SMN, IAM)."""

from exporter.vendorkit.cleaning import Vocabulary, words
from exporter.vendors.huawei_aom.client import CLOCK
from exporter.vendors.huawei_aom.normalise import CHANNELS, SEVERITIES

VOCABULARY = Vocabulary(
    values=words(
        SEVERITIES,
        CHANNELS,
        # event_type, `type` of ListEvents, ids that mean "the default" and "all"
        "alarm event active_alert history_alert 0 all_granted_eps",
        # keys of `metadata` and `annotations`
        "event_name event_severity event_type resource_provider resource_type resource_id namespace kind clusterId "
        "clusterName name nodeID message alarm_probableCause_zh_cn alarm_probableCause_en_us "
        "alarm_fix_suggestion_zh_cn",
        # resource_provider and resource_type of the manual's examples
        "AOM APM CCE ECS host service vm node cluster application component",
        # metadata_relation and sort
        "AND OR NOT starts_at asc desc",
        "SMN password token",
        # error_code and error_type
        "AOM.0400 AOM.08032002 AOM.07001400 AOM.0401 AOM.0403 AOM.07001403 AOM.07001429 AOM.08001429 AOM.0500 "
        "APM.00000500 AOM.0503 AOM.07001503 APIGW.0101 APIGW.0301 APIGW.0302 APIGW.0303 APIGW.0307 APIGW.0308 "
        "APIG.0101 APIG.0301 APIG.0302 APIG.0303 APIG.0307 APIG.0308 SC_BAD_REQUEST AUTH_FAILED SC_NOT_IMPLEMENTED "
        "SMN.0006",
    ),
    ids=frozenset(
        "id event_sn enterprise_project_id project_id resource_id smn_request_id request_id message_id trace_id "
        "smn_topic marker next_marker previous_marker".split()
    ),
    numbers=frozenset(
        "timeout smn_response_code smn_subscription_status sent_time current_count limit starts_at ends_at arrives_at "
        "step".split()
    ),
    maps=frozenset({"metadata", "annotations", "attach_rule", "policy", "summary"}),
    keywords=(CLOCK,),
    headers=frozenset({"x-subject-token"}),
)
