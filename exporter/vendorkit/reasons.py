"""failure_reason_from(): why a notice failed, by keywords in the vendor's free text."""

import re

from exporter.model.records import FailureReason

# The first row that is found in the text decides, in any case of letters.
KEYWORDS: tuple[tuple[re.Pattern[str], FailureReason], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"timeout|timed out|超时", FailureReason.TIMEOUT),
        (r"receiver|接收人|no user", FailureReason.NO_RECEIVER),
        (r"limit|frequen|限流|频率", FailureReason.THROTTLED),
        (r"reject|denied|forbidden|invalid|unauthor|topic not found", FailureReason.REJECTED),
        (r"internal|exception|5xx|(?<![0-9])5[0-9]{2}(?![0-9])", FailureReason.INTERNAL),
    )
)


def failure_reason_from(text: str) -> FailureReason:
    """Returns the reason a vendor's text means; unknown where there is no text, other where no keyword is in it."""
    if not text.strip():
        return FailureReason.UNKNOWN
    return next((reason for pattern, reason in KEYWORDS if pattern.search(text)), FailureReason.OTHER)
