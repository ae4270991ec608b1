"""Key-ASTROM's documented words: what may stay in a capture (environment API v2: events, event types, problems)."""

from exporter.vendorkit.cleaning import Vocabulary, words
from exporter.vendors.key_astrom.normalise import LEVELS, SEVERITIES

VOCABULARY = Vocabulary(
    values=words(
        LEVELS,
        SEVERITIES,
        "OPEN CLOSED",
        # impactLevel and evidenceType of problems
        "APPLICATION ENVIRONMENT INFRASTRUCTURE SERVICES EVENT METRIC TRANSACTIONAL MAINTENANCE_WINDOW "
        "AVAILABILITY_EVIDENCE",
        # types of entities, contexts of tags
        "HOST SERVICE PROCESS_GROUP PROCESS_GROUP_INSTANCE APPLICATION MOBILE_APPLICATION CUSTOM_APPLICATION "
        "SYNTHETIC_TEST HTTP_CHECK DISK NETWORK_INTERFACE KUBERNETES_CLUSTER KUBERNETES_NODE CLOUD_APPLICATION "
        "CLOUD_APPLICATION_INSTANCE CLOUD_APPLICATION_NAMESPACE AWS_LAMBDA_FUNCTION CUSTOM_DEVICE CONTEXTLESS "
        "KUBERNETES",
        # parameters, as the violations of an error name them
        "pageSize nextPageKey from to fields evidenceDetails eventSelector entitySelector problemSelector HEADER PATH "
        "PAYLOAD_BODY QUERY",
    ),
    ids=frozenset("eventId problemId displayId id correlationId nextPageKey".split()),
    numbers=frozenset("totalCount pageSize startTime endTime code".split()),
)
