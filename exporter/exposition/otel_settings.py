"""Where to push over OTLP: the section `otlp`, and OpenTelemetry's standard variables where it says nothing."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import Discriminator, PrivateAttr, Tag, TypeAdapter, ValidationError, WithJsonSchema, field_validator

from exporter.exposition.sender import Destination, Signal
from exporter.vendorkit.contract import BaseUrl
from exporter.vendorkit.secret import Credentials, Secret, SecretFile
from exporter.vendorkit.settings import Duration, ExistingFile


class HeadersFile(Secret):
    """A file with one `name: value` per line, read again when it changes."""

    _headers: Mapping[str, Secret] = {}

    @classmethod
    def _validated(cls, value: Any) -> Secret:
        file = super()._validated(value)
        if isinstance(file, HeadersFile):
            file.headers()
        return file

    def _content(self, text: str) -> str:
        return text

    def headers(self) -> Mapping[str, Secret]:
        """Returns the current headers; raises ValueError for a malformed line in the first reading."""
        lines = [line.partition(":") for line in self.read().splitlines() if line.strip()]
        if not all(name.strip() and value.strip() for name, _, value in lines):
            if self._headers:
                return self._headers  # it may be being written
            raise ValueError("the file must have one `name: value` per line")
        # Kept, because the log hides secrets only while they exist.
        self._headers = {name.strip(): Secret(value.strip()) for name, _, value in lines}
        return self._headers


Headers = Annotated[
    Annotated[dict[str, Secret], Tag("map")] | Annotated[HeadersFile, Tag("file")],
    Discriminator(lambda value: "file" if isinstance(value, SecretFile | HeadersFile) else "map"),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": "string", "minLength": 1, "writeOnly": True}},
    ),
]


class Otlp(Credentials):
    """Pushes to an OpenTelemetry collector, or whatever else takes OTLP; needs the extra `otlp`.

    What is not set here is taken from OpenTelemetry's standard variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    """

    endpoint: BaseUrl | None = None
    """Base URL of the receiver, as `http://collector:4318`; unset and without a variable for it, nothing is sent."""
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    """Transport of OTLP; collectors listen for HTTP on port 4318 and for gRPC on port 4317."""
    interval: Duration = timedelta(seconds=60)
    """Time between two pushes of the metrics, and the longest pause before a push that failed is tried again."""
    headers: Headers = {}
    """Sent with each request, such as `authorization`; secret. In the file, one `name: value` per line."""
    metrics: bool = True
    """Push the metrics."""
    logs: bool = False
    """Push a log record for each alert opened, closed, changed in severity or acknowledged, and each failed notice."""
    resource: dict[str, str] = {}
    """Extra resource attributes."""
    _standard: Mapping[str, str] = PrivateAttr({})

    @field_validator("interval")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than 0 s")
        return value

    def heed(self, standard: Mapping[str, str]) -> list[str]:
        """Fills in from OpenTelemetry's standard variables what is not set; returns the problems in them."""
        self._standard = standard
        return list(dict.fromkeys(problem for signal in self._wanted() for problem in self._problems(signal)))

    def destinations(self) -> list[Destination]:
        """Returns the destination of each signal to be sent; nothing if no receiver is configured."""
        return [self._destination(signal) for signal in self._wanted()]

    def interval_seconds(self) -> float:
        """Returns the time between two pushes of the metrics."""
        own = self.interval.total_seconds()
        return own if "interval" in self.model_fields_set else _seconds(self._standard.get(_INTERVAL, "")) or own

    def resource_attributes(self) -> dict[str, str]:
        """Returns the extra resource attributes, from the file and OTEL_RESOURCE_ATTRIBUTES."""
        found = _pairs(self._standard.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        if name := self._standard.get("OTEL_SERVICE_NAME"):
            found["service.name"] = name
        return found | self.resource

    def _wanted(self) -> list[Signal]:
        """Returns the signals to send: those that are on and have a receiver."""
        if self._standard.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return []
        signals: list[tuple[bool, Signal]] = [(self.metrics, "metrics"), (self.logs, "logs")]
        return [signal for on, signal in signals if on and (self.endpoint or self._variable(signal, "ENDPOINT")[1])]

    def _variable(self, signal: Signal, name: str) -> tuple[str, str]:
        """Returns the name and text of the standard variable for a signal: its own, else the general one."""
        own, common = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"
        used = own if self._standard.get(own) else common
        return used, self._standard.get(used, "")

    def _protocol(self, signal: Signal) -> str:
        _, standard = self._variable(signal, "PROTOCOL")
        return self.protocol if "protocol" in self.model_fields_set or not standard else standard

    def _problems(self, signal: Signal) -> Iterator[str]:
        protocol = self._protocol(signal)
        if protocol not in ("http/protobuf", "grpc"):
            yield f"{self._variable(signal, 'PROTOCOL')[0]}: must be http/protobuf or grpc: nothing else can be sent"
        variable, url = self._variable(signal, "ENDPOINT")
        if not self.endpoint and ("://" in url or protocol != "grpc"):  # gRPC accepts host and port alone
            yield from _wrong(BaseUrl, variable, url)
        variable, compression = self._variable(signal, "COMPRESSION")
        if compression not in ("", "gzip", "none"):
            yield f"{variable}: must be gzip or none"
        for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
            variable, file = self._variable(signal, name)
            if file:
                yield from _wrong(ExistingFile, variable, file)

    def _destination(self, signal: Signal) -> Destination:
        def standard(name: str) -> str:
            return self._variable(signal, name)[1]

        protocol: Literal["http/protobuf", "grpc"] = "grpc" if self._protocol(signal) == "grpc" else "http/protobuf"
        variable, url = self._variable(signal, "ENDPOINT")
        if self.endpoint or variable == "OTEL_EXPORTER_OTLP_ENDPOINT":  # a signal's own URL is complete
            base = self.endpoint or url
            url = f"{base.rstrip('/')}/v1/{signal}" if protocol == "http/protobuf" else base
        inline = {name: Secret(value) for name, value in _pairs(standard("HEADERS")).items() if value}

        def headers() -> dict[str, str]:
            own = self.headers.headers() if isinstance(self.headers, HeadersFile) else self.headers
            return {name: secret.read() for name, secret in {**inline, **own}.items()}

        return Destination(
            signal=signal,
            protocol=protocol,
            url=url,
            headers=headers,
            timeout_seconds=_seconds(standard("TIMEOUT")) or 10,
            compressed=standard("COMPRESSION") != "none",
            plain=_is_plain(url, insecure=standard("INSECURE").lower() == "true"),
            ca_file=standard("CERTIFICATE") or None,
            cert_file=standard("CLIENT_CERTIFICATE") or None,
            key_file=standard("CLIENT_KEY") or None,
        )


def _is_plain(url: str, *, insecure: bool) -> bool:
    """Returns whether a receiver is reached without TLS; `insecure` decides where the URL names no scheme."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() == "http" if separator else insecure


_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"


def _wrong(kind: Any, variable: str, text: str) -> Iterator[str]:
    try:
        TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            yield f"{variable}: {detail['msg'].removeprefix('Value error, ').replace('Input should', 'must', 1)}"


def _seconds(milliseconds: str) -> float:
    """Returns the seconds in a standard variable; 0 for an unusable number, which is ignored."""
    return int(milliseconds) / 1000 if re.fullmatch("[0-9]{1,12}", milliseconds) else 0.0


def _pairs(text: str) -> dict[str, str]:
    """Returns the pairs of a standard variable, `key=value,key=value` with percent-encoding."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs}
