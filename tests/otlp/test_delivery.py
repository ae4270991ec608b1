"""Whatever a receiver does: nothing waits for it, what is lost is counted, and it works again without a restart."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics

from exporter.exposition.courier import Backlog, Courier, Parcel
from exporter.exposition.otlp import Encoder, Push
from exporter.exposition.sender import Destination, HttpSender, Undelivered
from exporter.model.alert import Severity
from exporter.model.occurrence import Occurrence, What
from tests.builders import START
from tests.certificates import make_certificate
from tests.exposition.states import a_polled_state, a_snapshot
from tests.otlp.receivers import GOOD, Received, Reply, grpc_receiver, http_receiver, wait_until

SNAPSHOT = a_snapshot(a_polled_state())
RESOURCE = {"service.name": "x", "service.instance.id": "i"}

Open = Callable[..., AbstractContextManager[Received]]
RECEIVERS: dict[str, Open] = {"http/protobuf": http_receiver, "grpc": grpc_receiver}
both = pytest.mark.parametrize("protocol", RECEIVERS)


@pytest.fixture
def pushes() -> Iterator[Callable[..., Push]]:
    """Starts what pushes to this URL, fast."""
    made: list[Push] = []

    def start(protocol: Any, url: str, *signals: Any, **changes: Any) -> Push:
        destinations = [
            Destination(
                **{
                    "signal": signal,
                    "protocol": protocol,
                    "url": url if protocol == "grpc" else f"{url}/v1/{signal}",
                    "headers": dict,
                    "timeout_seconds": 0.3,
                    "plain": url.startswith("http:"),
                    **changes,
                }
            )
            for signal in signals
        ]
        encoder = Encoder(RESOURCE, version="1", revision="r", started_at=START)
        push = Push(destinations, interval_seconds=0.05, encoder=encoder)
        push.start(lambda: SNAPSHOT)
        made.append(push)
        return push

    yield start
    for push in made:
        push.stop()
    for push in made:
        push.join(5)


def an_occurrence(key: str = "a") -> Occurrence:
    return Occurrence(what=What.OPENED, source="s", vendor="v", key=key, severity=Severity.CRITICAL, at=START)


def keys(received: Received) -> list[str]:
    """Which alerts were told of, in their order."""
    return [pair.value.string_value for record in received.records() for pair in record.attributes if pair.key == "key"]


@both
def test_both_signals_arrive_compressed_and_with_their_headers(protocol: str, pushes: Callable[..., Push]) -> None:
    with RECEIVERS[protocol]() as received:
        push = pushes(protocol, received.url, "metrics", "logs", headers=lambda: {"Authorization": "Bearer t"})

        push.tell([an_occurrence()], START)

        wait_until(lambda: keys(received) == ["a"] and len(received.requests) > 1)
        assert all(headers["authorization"] == "Bearer t" for headers in received.headers)
        if protocol == "http/protobuf":
            assert received.headers[0]["content-encoding"] == "gzip"
            assert received.headers[0]["content-type"] == "application/x-protobuf"


FAILURES = {
    "hangs": Reply(seconds=30),
    "is overloaded": Reply(status=503, code=grpc.StatusCode.UNAVAILABLE),
    "throttles": Reply(status=429, headers={"retry-after": "0"}, code=grpc.StatusCode.RESOURCE_EXHAUSTED),
    "refuses the token": Reply(status=401, code=grpc.StatusCode.UNAUTHENTICATED),
    "is another service": Reply(status=404, code=grpc.StatusCode.UNIMPLEMENTED),
}


@both
@pytest.mark.parametrize("reply", FAILURES.values(), ids=FAILURES)
def test_a_receiver_that_fails_loses_no_log_record_and_is_used_again_once_it_works(
    protocol: str, reply: Reply, pushes: Callable[..., Push], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with RECEIVERS[protocol]() as received:
        received.reply = reply
        push = pushes(protocol, received.url, "metrics", "logs")
        push.tell([an_occurrence("a")], START)
        wait_until(lambda: min(push.deliveries().failures.values()) > 1)
        push.tell([an_occurrence("b")], START)

        received.reply = GOOD
        received.ended.set()

        # What hung was taken by the receiver after all, but its answer came too late.
        wait_until(lambda: {*keys(received)} == {"a", "b"} and "delivering metrics again" in caplog.text)
    deliveries = push.deliveries()
    assert deliveries.exports["logs"] > deliveries.failures["logs"]
    assert deliveries.dropped["logs"] == 0
    assert deliveries.dropped["metrics"] > 0
    assert caplog.text.count("cannot deliver metrics") == 1


@both
def test_an_absent_receiver_is_used_once_it_is_there(protocol: str, pushes: Callable[..., Push]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        push = pushes(protocol, f"http://127.0.0.1:{port}", "logs")
        push.tell([an_occurrence()], START)
        wait_until(lambda: push.deliveries().failures["logs"] > 0)

    with RECEIVERS[protocol](port) as received:
        wait_until(lambda: keys(received) == ["a"])


@both
def test_an_unknown_authority_is_not_trusted_until_its_certificate_is_there(
    protocol: str, pushes: Callable[..., Push], tmp_path: Path
) -> None:
    make_certificate(tmp_path, "ca", san="DNS:ca.test")
    make_certificate(tmp_path, "server", issuer="ca")
    make_certificate(tmp_path, "other", san="DNS:other.test")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes((tmp_path / "other.pem").read_bytes())
    with RECEIVERS[protocol](certificate=tmp_path / "server.pem") as received:
        push = pushes(protocol, received.url, "logs", ca_file=str(trusted))
        push.tell([an_occurrence()], START)
        wait_until(lambda: push.deliveries().failures["logs"] > 0)
        before = keys(received)

        trusted.write_bytes((tmp_path / "ca.pem").read_bytes())

        wait_until(lambda: keys(received) == ["a"])
    assert before == []


PARTIAL = {
    "metrics": metrics.ExportMetricsServiceResponse(
        partial_success=metrics.ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old")
    ),
    "logs": logs.ExportLogsServiceResponse(
        partial_success=logs.ExportLogsPartialSuccess(rejected_log_records=1, error_message="too old")
    ),
}


@both
@pytest.mark.parametrize("signal", PARTIAL)
def test_what_a_receiver_does_not_take_of_a_request_is_counted_and_not_sent_again(
    protocol: str, signal: str, pushes: Callable[..., Push], caplog: pytest.LogCaptureFixture
) -> None:
    with RECEIVERS[protocol]() as received:
        received.reply = Reply(body=PARTIAL[signal].SerializeToString())
        push = pushes(protocol, received.url, signal)
        push.tell([an_occurrence("a"), an_occurrence("b")], START)

        wait_until(lambda: push.deliveries().dropped[signal] > 0 and "too old" in caplog.text)

        assert "too old" in caplog.text
        assert push.deliveries().failures[signal] == 0
        if signal == "logs":
            received.reply = GOOD
            push.tell([an_occurrence("c")], START)
            wait_until(lambda: keys(received) == ["a", "b", "c"])
            assert push.deliveries().dropped["logs"] == 1


@both
def test_a_request_that_would_be_refused_again_is_dropped(protocol: str, pushes: Callable[..., Push]) -> None:
    with RECEIVERS[protocol]() as received:
        received.reply = Reply(status=400, code=grpc.StatusCode.INVALID_ARGUMENT)
        push = pushes(protocol, received.url, "logs")
        push.tell([an_occurrence("a")], START)
        wait_until(lambda: push.deliveries().dropped["logs"] == 1)

        received.reply = GOOD
        push.tell([an_occurrence("b")], START)

        wait_until(lambda: keys(received) == ["b"])


ODD = {
    "not from an OTLP receiver: text/html": Reply(headers={"content-type": "text/html"}, body=b"<html>Log in"),
    "the answer is not from an OTLP receiver": Reply(body=b"\xff"),
    "larger than 65536 bytes": Reply(body=b"x" * 100_000),
    "HTTP 302": Reply(status=302, headers={"location": "/login"}),
}


@pytest.mark.parametrize(("said", "reply"), ODD.items(), ids=ODD)
def test_an_answer_no_receiver_gives_is_a_failure(
    said: str, reply: Reply, pushes: Callable[..., Push], caplog: pytest.LogCaptureFixture
) -> None:
    with http_receiver() as received:
        received.reply = reply
        push = pushes("http/protobuf", received.url, "metrics")

        wait_until(lambda: push.deliveries().failures["metrics"] > 0 and said in caplog.text)

        assert said in caplog.text


def test_a_receiver_is_left_alone_for_as_long_as_it_asks() -> None:
    with http_receiver() as received:
        received.reply = Reply(status=429, headers={"retry-after": "120"})
        sender = HttpSender(
            Destination(signal="logs", protocol="http/protobuf", url=f"{received.url}/v1/logs", headers=dict)
        )

        with pytest.raises(Undelivered) as caught:
            sender.send(b"", 5)
        sender.close()

    assert caught.value.retry_after == 120


def test_a_defect_in_collecting_is_a_failure_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    collections = count()

    def collect() -> Iterator[Parcel]:
        number = next(collections)
        if number == 0:
            raise ZeroDivisionError
        if number == 1:
            yield Parcel(b"", 1)

    with http_receiver() as received:
        url = f"{received.url}/v1/logs"
        to = Destination(signal="logs", protocol="http/protobuf", url=url, headers=dict, timeout_seconds=1, plain=True)
        courier = Courier(
            to, interval_seconds=0.05, every_seconds=0.05, collect=collect, refused=lambda _answer: (0, ""), keeps=True
        )
        courier.start()
        wait_until(lambda: courier.exports == 1)
        courier.stop()
        courier.join(5)

    assert (courier.failures, courier.dropped, len(received.requests)) == (1, 0, 1)
    assert "logs were not sent because of a defect" in caplog.text


@both
def test_stopping_tells_what_is_left(protocol: str, pushes: Callable[..., Push]) -> None:
    with RECEIVERS[protocol]() as received:
        push = pushes(protocol, received.url, "logs")
        push.tell([an_occurrence(str(number)) for number in range(1200)], START)

        push.stop()
        push.join(5)

        assert keys(received) == [str(number) for number in range(1200)]


@both
def test_stopping_does_not_wait_for_a_receiver_that_hangs(protocol: str, pushes: Callable[..., Push]) -> None:
    with RECEIVERS[protocol]() as received:
        received.reply = Reply(seconds=30)
        push = pushes(protocol, received.url, "logs", timeout_seconds=30.0)
        push.tell([an_occurrence()], START)
        wait_until(lambda: received.headers)

        push.stop()
        push.join(0.01)

        assert any(thread.name == "otlp logs" and thread.daemon for thread in threading.enumerate())


@given(st.lists(st.one_of(st.integers(0, 6), st.none())), st.integers(1, 8))
def test_a_backlog_keeps_the_newest_and_counts_what_it_lost(steps: list[int | None], limit: int) -> None:
    backlog: Backlog[int] = Backlog(limit)
    numbers, taken = count(), []

    for step in steps:
        if step is None:
            taken += backlog.taken(3)
        else:
            backlog.add([next(numbers) for _ in range(step)])
    left = backlog.taken(limit)

    assert left == sorted({*taken, *left})[len(taken) :]
    assert len(taken) + len(left) + backlog.lost == next(numbers)
    assert backlog.taken(1) == []
