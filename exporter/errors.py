"""All errors, as one tree: the class decides the reaction, `reason` the metric's label."""

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Values of the label `reason` of `vendor_source_poll_failures_total`."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    TLS = "tls"
    AUTH = "auth"
    PERMISSION = "permission"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"
    API_ERROR = "api_error"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    CLOCK_SKEW = "clock_skew"
    INTERNAL = "internal"


# What to do about each reason, in general; a vendor may know better.
REMEDIES = {
    Reason.TIMEOUT: "check that the vendor is reachable from here and answers in time, or raise `timeout`",
    Reason.CONNECTION: "check host and port, DNS, firewalls and `proxy`; the error names what could not be reached",
    Reason.TLS: "check the certificate of the server; a private authority belongs in `tls.ca_file`",
    Reason.AUTH: "check the credentials under `auth`; a rotated secret file is read again by itself",
    Reason.PERMISSION: "grant the account the permissions named in the vendor's chapter of the documentation",
    Reason.RATE_LIMITED: "lower `max_requests_per_second` or raise `interval`",
    Reason.NOT_FOUND: "check `endpoint`: it ends before the vendor's documented path",
    Reason.SERVER_ERROR: "nothing to do here: the vendor's server failed; it is asked again",
    Reason.BAD_RESPONSE: "check that `endpoint` is the vendor's API and not a login page or a proxy",
    Reason.API_ERROR: "read the vendor's message: it refused the request itself",
    Reason.TOO_LARGE: "raise `max_response_bytes`, or narrow what is asked for",
    Reason.TRUNCATED: "raise `max_pages`, or split the source so that each part lists fewer alerts",
    Reason.CLOCK_SKEW: "synchronise the clock of this machine (NTP)",
    Reason.INTERNAL: "this is a defect of the exporter: please report it with the traceback in the log",
}


class ExporterError(Exception):
    """The root of all errors that this program raises on purpose."""


class ConfigError(ExporterError):
    """The operator must change something; nothing starts. `problems` holds one line each, whatever keys they name."""

    def __init__(self, *problems: str) -> None:
        self.problems = tuple("".join(char if char.isprintable() else "?" for char in each) for each in problems)
        super().__init__("\n".join(self.problems))


class FetchError(ExporterError):
    """A poll ends here; what it had completed before stays.

    Args:
        message: what happened, without any secret and without the vendor's body.
        reason: the value of the metric's label.
        repeat: whether asking the same again within this poll can help.
        retry_after: seconds the vendor asked us to wait, if it did.
    """

    reason = Reason.INTERNAL
    repeat = False

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        repeat: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason
        if repeat is not None:
            self.repeat = repeat
        self.retry_after = retry_after

    def saying(self, message: str) -> Self:
        """Returns the same error with another message."""
        return type(self)(message, reason=self.reason, repeat=self.repeat, retry_after=self.retry_after)

    def bare(self) -> Self:
        """Returns itself without its causes, whose frames would keep the whole answer in memory."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class SourceUnreachable(FetchError):
    """No answer arrived: timeout, connection or tls."""

    reason = Reason.CONNECTION
    repeat = True


class SourceThrottled(FetchError):
    """The vendor asked us to slow down, perhaps with `retry_after`."""

    reason = Reason.RATE_LIMITED
    repeat = True


class SourceBroken(FetchError):
    """The vendor failed (server_error, repeated for 502, 503 and 504) or refused the call itself (api_error)."""

    reason = Reason.SERVER_ERROR


class SourceRefused(FetchError):
    """The vendor denies access: auth, permission or clock_skew. Never retried at once."""

    reason = Reason.AUTH


class SourceUnintelligible(FetchError):
    """An answer that cannot be used: bad_response, not_found, too_large or truncated."""

    reason = Reason.BAD_RESPONSE


class ItemRejected(ExporterError):
    """One item of a good answer cannot be read; it is counted, the others stay."""
