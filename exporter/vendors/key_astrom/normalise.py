"""Events, their types and problems in our words; the tables of types and severities."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import LabelSets
from exporter.model.reading import Rejections
from exporter.model.records import Convergence, Event, Kind
from exporter.vendorkit.fields import flag, identity, is_digits, moment_from_ms, short, text
from exporter.vendorkit.items import Normalised, normalise_all
from exporter.vendors.key_astrom import payload

# "Event types API v2 - GET all event types": the values of `severityLevel`, with "Event categories" for their order.
SEVERITIES = {
    "AVAILABILITY": Severity.CRITICAL,
    "ERROR": Severity.MAJOR,
    "MONITORING_UNAVAILABLE": Severity.MAJOR,
    "PERFORMANCE": Severity.MINOR,
    "RESOURCE_CONTENTION": Severity.WARNING,
    "CUSTOM_ALERT": Severity.WARNING,
    "INFO": Severity.INFO,
}

# Used where the server does not say: a token without the right, an older server, a type it lists without a level.
# First the names of API v2 ("Event types API v2"), then the older ones of API v1 and the interface ("Event
# categories" and its pages), which still turn up in events. The manual gives a level for about half of them; the
# others follow from their siblings.
_TYPES = {
    "AVAILABILITY": """
        AVAILABILITY_EVENT APPLICATION_UNEXPECTED_LOW_LOAD OSI_UNEXPECTEDLY_UNAVAILABLE HOST_LOG_AVAILABILITY
        SERVICE_UNEXPECTED_LOW_LOAD MOBILE_APPLICATION_UNEXPECTED_LOW_LOAD PGI_UNAVAILABLE PG_LOW_INSTANCE_COUNT
        SYNTHETIC_GLOBAL_OUTAGE SYNTHETIC_LOCAL_OUTAGE PGI_LOG_AVAILABILITY CUSTOM_APPLICATION_UNEXPECTED_LOW_LOAD
        LOG_AVAILABILITY PGI_CUSTOM_AVAILABILITY HTTP_CHECK_GLOBAL_OUTAGE HTTP_CHECK_LOCAL_OUTAGE
        EXTERNAL_SYNTHETIC_TEST_OUTAGE SYNTHETIC_NODE_OUTAGE SYNTHETIC_PRIVATE_LOCATION_OUTAGE
        OSI_GRACEFULLY_SHUTDOWN PROCESS_CRASHED PGI_KEYSTONE_UNHEALTHY HOST_OF_SERVICE_UNAVAILABLE
        RDS_OF_SERVICE_UNAVAILABLE MULTI_PROTOCOL_GLOBAL_OUTAGE MULTI_PROTOCOL_LOCAL_OUTAGE
        UNEXPECTED_LOW_LOAD PROCESS_UNAVAILABLE PROCESS_GROUP_LOW_INSTANCE_COUNT WEB_CHECK_GLOBAL_OUTAGE
        WEB_CHECK_LOCAL_OUTAGE PROCESS_LOG_AVAILABILITY CONNECTION_LOST""",
    "ERROR": """
        ERROR_EVENT MOBILE_APP_CRASH_RATE_INCREASED APPLICATION_ERROR_RATE_INCREASED HOST_LOG_ERROR
        RDS_RESTART_SEQUENCE PGI_OF_SERVICE_UNAVAILABLE SERVICE_ERROR_RATE_INCREASED AWS_LAMBDA_HIGH_ERROR_RATE
        ELB_HIGH_BACKEND_ERROR_RATE OSI_NIC_DROPPED_PACKETS_HIGH OSI_NIC_ERRORS_HIGH PROCESS_NA_HIGH_CONN_FAIL_RATE
        PGI_LOG_ERROR CUSTOM_APPLICATION_ERROR_RATE_INCREASED MOBILE_APPLICATION_ERROR_RATE_INCREASED
        CUSTOM_APP_CRASH_RATE_INCREASED DATABASE_CONNECTION_FAILURE LOG_ERROR PGI_CUSTOM_ERROR
        PROCESS_NA_HIGH_LOSS_RATE ESXI_HOST_NETWORK_PROBLEMS
        JAVASCRIPT_ERROR_RATE_INCREASED HIGH_DROPPED_PACKETS_RATE HIGH_NETWORK_ERROR_RATE
        LAMBDA_FUNCTION_HIGH_ERROR_RATE ELASTIC_LOAD_BALANCER_HIGH_BACKEND_FAILURE_RATE PROCESS_LOG_ERROR
        FAILURE_RATE_INCREASED HIGH_CONNECTIVITY_FAILURES""",
    "PERFORMANCE": """
        PERFORMANCE_EVENT APPLICATION_SLOWDOWN MOBILE_APPLICATION_SLOWDOWN HOST_LOG_PERFORMANCE SERVICE_SLOWDOWN
        SYNTHETIC_TEST_LOCATION_SLOWDOWN PGI_LOG_PERFORMANCE CUSTOM_APPLICATION_SLOWDOWN
        HTTP_CHECK_TEST_LOCATION_SLOWDOWN EXTERNAL_SYNTHETIC_TEST_SLOWDOWN LOG_PERFORMANCE PGI_CUSTOM_PERFORMANCE
        PGI_KEYSTONE_SLOW MULTI_PROTOCOL_LOCATION_SLOWDOWN
        USER_ACTION_DURATION_DEGRADATION SERVICE_RESPONSE_TIME_DEGRADED SYNTHETIC_SLOWDOWN
        PROCESS_LOG_PERFORMANCE""",
    "RESOURCE_CONTENTION": """
        RESOURCE_CONTENTION_EVENT APPLICATION_UNEXPECTED_HIGH_LOAD SERVICE_UNEXPECTED_HIGH_LOAD
        MOBILE_APPLICATION_UNEXPECTED_HIGH_LOAD OSI_HIGH_CPU EC2_HIGH_CPU RDS_HIGH_CPU ESXI_HOST_CPU_SATURATION
        OSI_HIGH_MEMORY RDS_LOW_MEMORY ESXI_HOST_MEMORY_SATURATION OSI_LOW_DISK_SPACE OSI_SLOW_DISK
        ESXI_HOST_DISK_SLOW OSI_DISK_LOW_INODES OSI_NIC_UTILIZATION_HIGH PROCESS_HIGH_GC_ACTIVITY
        PROCESS_MEMORY_RESOURCE_EXHAUSTED RDS_HIGH_LATENCY ESXI_HOST_DISK_QUEUE_SLOW
        CUSTOM_APPLICATION_UNEXPECTED_HIGH_LOAD EBS_VOLUME_HIGH_LATENCY ESXI_GUEST_ACTIVE_SWAP_WAIT
        ESXI_GUEST_CPU_LIMIT_REACHED ESXI_HOST_DATASTORE_LOW_DISK_SPACE ESXI_HOST_OVERLOADED_STORAGE
        ESXI_VM_IMPACT_HOST_CPU_SATURATION ESXI_VM_IMPACT_HOST_MEMORY_SATURATION
        OSI_DOCKER_DEVICEMAPPER_LOW_DATA_SPACE OSI_DOCKER_DEVICEMAPPER_LOW_METADATA_SPACE
        PGI_HAPROXY_QUEUED_REQUESTS_HIGH PGI_HAPROXY_SESSION_USAGE_HIGH PGI_MYSQL_SLOW_QUERIES_RATE_HIGH
        PGI_RMQ_HIGH_FILE_DESC_USAGE PGI_RMQ_HIGH_MEM_USAGE PGI_RMQ_HIGH_PROCESS_USAGE PGI_RMQ_HIGH_SOCKETS_USAGE
        PGI_RMQ_LOW_DISK_SPACE PROCESS_THREADS_RESOURCE_EXHAUSTED RDS_LOW_STORAGE_SPACE
        UNEXPECTED_HIGH_LOAD CPU_SATURATED MEMORY_SATURATED LOW_DISK_SPACE SLOW_DISK HOST_DISK_LOW_INODES
        HIGH_NETWORK_UTILIZATION HIGH_GC_ACTIVITY HIGH_LATENCY INSUFFICIENT_DISK_QUEUE_DEPTH
        MEMORY_RESOURCES_EXHAUSTED RESOURCE_EVENT RESOURCE_CONTENTION""",
    "CUSTOM_ALERT": "CUSTOM_ALERT",
    "MONITORING_UNAVAILABLE": "MONITORING_UNAVAILABLE",
    "INFO": """
        APPLICATION_JS_FRAMEWORK_DETECTED APPLICATION_OVERLOAD_PREVENTION CUSTOM_ANNOTATION CUSTOM_CONFIGURATION
        CUSTOM_DEPLOYMENT CUSTOM_INFO MARKED_FOR_TERMINATION LOG_MATCHED ELB_HIGH_FRONTEND_ERROR_RATE
        ELB_HIGH_UNHEALTHY_HOST_RATE CUSTOM_APPLICATION_OVERLOAD_PREVENTION MOBILE_APPLICATION_OVERLOAD_PREVENTION
        DEPLOYMENT_CHANGED_CHANGE DEPLOYMENT_CHANGED_NEW DEPLOYMENT_CHANGED_REMOVED HOST_LOG_MATCHED PGI_LOG_MATCHED
        PGI_CRASHED_INFO PGI_MEMDUMP PROCESS_RESTART RDS_AZ_FAILOVER_COMPLETED RDS_AZ_FAILOVER_STARTED
        RDS_BACKUP_COMPLETED RDS_BACKUP_STARTED RDS_RESTART ESXI_HOST_CONNECTION_FAILED ESXI_HOST_CONNECTION_LOST
        ESXI_HOST_MAINTENANCE ESXI_HOST_NO_CONNECTION ESXI_HOST_SHUTDOWN ESXI_HOST_TIMEOUT ESXI_HOST_UP
        ESXI_HOST_VM_MOTION_ARRIVED ESXI_HOST_VM_MOTION_LEFT ESXI_HOST_VM_STARTED ESXI_VM_DISCONNECTED
        ESXI_VM_MOTION ESXI_VM_POWER_OFF ESXI_VM_SHUTDOWN ESXI_VM_START OPENSTACK_HOST_VM_SHUTDOWN
        OPENSTACK_HOST_VM_STARTED OPENSTACK_VM_LAUNCH_FAILED OPENSTACK_VM_MOTION WARNING
        ELASTIC_LOAD_BALANCER_HIGH_FAILURE_RATE ELASTIC_LOAD_BALANCER_HIGH_UNHEALTHY_HOST_RATE""",
}
LEVELS = {name: level for level, names in _TYPES.items() for name in names.split()}

LABELS = LabelSets(
    severities=(Severity.CRITICAL, Severity.MAJOR, Severity.MINOR, Severity.WARNING),
    close_reasons=(CloseReason.RECOVERED, CloseReason.VANISHED),
    unmapped=("severity", "status"),
    lists=("events",),
)

_NEVER = datetime.max.replace(tzinfo=UTC)

# Meanings of event types: alerts of this severity, or, with None, no alerts. Missing types are unknown.
Meanings = Mapping[str, Severity | None]


def meanings_from(told: Iterable[payload.EventType], severities: Mapping[str, Severity]) -> Meanings:
    """Returns the meanings of types: by the server's level, else by the table; an unknown level leaves a type unknown.

    Events of INFO level are no alerts, unless the operator gave that level another severity.
    """
    current = {
        name: level for kind in told if (name := short(kind.type)) and (level := text(kind.severity_level).upper())
    }
    levels = current | LEVELS | current  # those that the server knows come first
    return {
        name: None if level == "INFO" and severity is Severity.INFO else severity
        for name, level in levels.items()
        if (severity := severities.get(level)) is not None
    }


def key_from(event: payload.Event | payload.EventId) -> str:
    """Returns the id of an event; raises ItemRejected where it has none."""
    return identity(event.event_id, "eventId")


def is_information(event: payload.Event | payload.EventId, meanings: Meanings) -> bool:
    """Returns whether an event is no alert, by its type."""
    return meanings.get(short(event.event_type), Severity.UNKNOWN) is None


def record_from(
    event: payload.Event, meanings: Meanings, open_alerts: Mapping[str, Alert] = MappingProxyType({})
) -> Alert | Event:
    """Returns a row as an alert, open or ended, or as an event; raises ItemRejected without an id or a sane time.

    One that is among the open alerts is an alert, whatever its type means by now.
    """
    key = key_from(event)
    started_at = moment_from_ms(event.start_time, "startTime") or _moment_in(key)
    name = short(event.event_type)
    severity = meanings.get(name, Severity.UNKNOWN)
    if severity is None:
        known = open_alerts.get(key)
        if known is None:
            return Event(key=key, at=started_at, event_type=name)
        severity = known.severity
    ended_at = moment_from_ms(event.end_time, "endTime")
    status = text(event.status).upper()
    # The status decides: an event that is open may well carry a time at which it would end.
    is_open = status == "OPEN" or (status != "CLOSED" and ended_at is None)
    unmapped: tuple[str, ...] = () if name in meanings else ("severity",)
    if status not in ("OPEN", "CLOSED"):
        unmapped = (*unmapped, "status")
    entity = event.entity_id.entity_id if event.entity_id else None
    zone = event.management_zones[0] if event.management_zones else None
    return Alert(
        key=key,
        severity=severity,
        started_at=started_at,
        ended_at=None if is_open else ended_at,
        close_reason=None if is_open else CloseReason.RECOVERED,
        suppressed=flag(event.suppress_alert) or flag(event.under_maintenance),
        title=short(event.title),
        name=name,
        resource_type=short(entity.type) if entity else "",
        namespace=short(zone.name) if zone else "",
        unmapped=unmapped,
    )


def convergences_from(problem: payload.Problem) -> Normalised[Convergence]:
    """Returns the events that joined a problem after its first, which is the one that began first."""
    problem_id = text(problem.problem_id)
    if not problem_id:
        return Normalised([], Rejections({Kind.OPERATION: 1}, {Kind.OPERATION: "problemId is missing"}))
    details = problem.evidence_details.details if problem.evidence_details else None
    evidences = normalise_all(Kind.OPERATION, details or (), _joined_from)
    joined = dict(evidences.items)
    # An event without a time cannot be shown to be the first.
    first, *further = sorted(joined, key=lambda key: (joined[key] or _NEVER, key)) or [""]
    return Normalised(
        [Convergence(key=f"{problem_id}/{key}", alert_key=first, at=joined[key]) for key in further],
        evidences.rejected,
    )


def _joined_from(evidence: payload.Evidence | None) -> tuple[str, datetime | None] | None:
    if evidence is None or evidence.evidence_type != "EVENT":
        return None
    key = identity(evidence.event_id, "eventId")
    return key, moment_from_ms(evidence.start_time, "startTime") or _moment_in(key)


def _moment_in(key: str) -> datetime | None:
    """Returns the start that an eventId ends in, `<hash>_<ms>`; None for other ids."""
    suffix = key.rpartition("_")[2]
    return moment_from_ms(int(suffix), "eventId") if is_digits(suffix) and len(suffix) == 13 else None
