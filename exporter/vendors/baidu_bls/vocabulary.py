"""The Log Service's documented words: what may stay in a capture (alarm records and executions, common errors)."""

from exporter.vendorkit.cleaning import Vocabulary, words
from exporter.vendors.baidu_bls.normalise import CHANNELS, SEVERITIES, STATES, SUPPRESSIONS

VOCABULARY = Vocabulary(
    values=words(
        SEVERITIES,
        STATES,
        CHANNELS,
        SUPPRESSIONS,
        "SENT NOT_SENT FAIL POLICY_MODIFIED ENABLE ENABLED DISABLED",
        # orderBy and order of the list, the project of a store without one, maps in the form of pairs
        "startTime endTime asc desc default key value",
        # code
        "InvalidParameter MalformedJSON Unauthorized AccessDenied RequestOverload RequestLimited InternalError "
        "ServiceUnavailable InvalidHTTPAuthHeader InvalidAccessKeyId OptInRequired InvalidURI InappropriateJSON "
        "InvalidVersion RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch AlarmNotFound",
    ),
    ids=frozenset("id groupId alarmId policyId logStoreId requestId".split()),
    numbers=frozenset("totalCount pageNo pageSize pendingCount repeatIntervalMinute".split()),
    maps=frozenset({"groups", "values", "logs"}),
)
