import pytest

from exporter.model.records import FailureReason
from exporter.vendorkit.reasons import failure_reason_from


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("callback timeout", FailureReason.TIMEOUT),
        ("Read TIMED OUT", FailureReason.TIMEOUT),
        ("发送超时", FailureReason.TIMEOUT),
        ("no receiver configured", FailureReason.NO_RECEIVER),
        ("接收人为空", FailureReason.NO_RECEIVER),
        ("there is no user to tell", FailureReason.NO_RECEIVER),
        ("daily limit reached", FailureReason.THROTTLED),
        ("too frequent", FailureReason.THROTTLED),
        ("被限流", FailureReason.THROTTLED),
        ("频率过高", FailureReason.THROTTLED),
        ("Rejected by gateway", FailureReason.REJECTED),
        ("access denied", FailureReason.REJECTED),
        ("HTTP 403 Forbidden", FailureReason.REJECTED),
        ("invalid number", FailureReason.REJECTED),
        ("unauthorized", FailureReason.REJECTED),
        ("topic not found", FailureReason.REJECTED),
        ("Internal error", FailureReason.INTERNAL),
        ("NullPointerException", FailureReason.INTERNAL),
        ("webhook answered 502", FailureReason.INTERNAL),
        ("upstream 5xx", FailureReason.INTERNAL),
        ("error 15000", FailureReason.OTHER),
        ("something else", FailureReason.OTHER),
        ("", FailureReason.UNKNOWN),
        ("  ", FailureReason.UNKNOWN),
    ],
)
def test_tells_why_a_notice_failed_by_the_first_keyword_row_that_fits(text: str, reason: FailureReason) -> None:
    assert failure_reason_from(text) is reason


def test_the_order_of_the_table_decides_between_two_keywords() -> None:
    assert failure_reason_from("request timeout: frequency limit, invalid receiver") is FailureReason.TIMEOUT
    assert failure_reason_from("invalid receiver, limit exceeded") is FailureReason.NO_RECEIVER
