import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_from

from exporter.errors import ConfigError
from exporter.exposition.port import Limits, Port
from exporter.exposition.prometheus import Part, Renderer
from exporter.exposition.web import Shown
from exporter.model.reading import OpenAlerts
from tests.builders import a_book, a_poll, an_alert
from tests.exposition.conftest import Serve
from tests.exposition.states import a_polled_state, a_snapshot

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


def client(server: Port, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{server.address[1]}", trust_env=False, timeout=10, **options)


def connection(server: Port) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.address[1]), timeout=10)


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


class Reloads:
    """Reloads that take until `done`."""

    def __init__(self) -> None:
        self.begun, self.done = threading.Semaphore(0), threading.Event()

    def __call__(self) -> None:
        self.begun.release()
        assert self.done.wait(10)

    def begun_at(self, server: Port) -> socket.socket:
        """A connection whose reload is under way."""
        raw = connection(server)
        raw.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n")
        assert self.begun.acquire(timeout=10)
        return raw


@pytest.fixture
def reloads() -> Iterator[Reloads]:
    reloads = Reloads()
    yield reloads
    reloads.done.set()


def test_metrics_are_plain_text_unless_asked_otherwise(serve: Serve, shown: Shown) -> None:
    with client(serve(), headers={"accept-encoding": "identity"}) as http:
        answer = http.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.content == shown.current[1].text.body(0)
    assert "content-encoding" not in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        (BROWSER, False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=2.0.0", False),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nan, ;;, q=", False),
        ("", False),
    ],
)
def test_the_format_is_negotiated(serve: Serve, shown: Shown, accept: str, openmetrics: bool) -> None:
    with client(serve()) as http:
        answer = http.get("/metrics", headers={"accept": accept})

    exposition = shown.current[1]
    expected = exposition.openmetrics if openmetrics else exposition.text
    assert (answer.headers["content-type"], answer.content) == (expected.content_type, expected.body(0))


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("*", True), ("gzip;q=0, *", False), ("br", False)],
)
def test_gzip_is_sent_to_those_who_take_it(serve: Serve, shown: Shown, accepted: str, compressed: bool) -> None:
    with client(serve()) as http:
        answer = http.get("/metrics", headers={"accept-encoding": accepted})

    assert (answer.headers.get("content-encoding") == "gzip") == compressed
    assert answer.content == shown.current[1].text.body(0)


def test_families_can_be_asked_for_by_name(serve: Serve) -> None:
    names = {"name[]": ["vendor_source_up", "vendor_alerts_open", "nothing"]}

    with client(serve(), headers={"accept": "application/openmetrics-text"}) as http:
        some = http.get("/metrics", params=names)
        none = http.get("/metrics", params={"name[]": "nothing"}, headers={"accept": "text/plain"})

    families = openmetrics_from(some.text)
    assert {family.name for family in families} == {"vendor_source_up", "vendor_alerts_open"}
    assert (none.status_code, none.content) == (200, b"")


def test_a_scrape_sees_what_was_shown_last(serve: Serve, shown: Shown) -> None:
    snapshot = a_snapshot(a_polled_state(name="newcomer"))
    with client(serve()) as http:
        http.get("/metrics")

        shown.show(snapshot, Renderer(version="1", revision="2").render(snapshot))

        assert 'source="newcomer"' in http.get("/metrics").text
        assert "newcomer" in http.get("/").text


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/-/healthy", "/-/ready", "/nothing", "/-/reload"])
def test_head_says_what_get_says_without_the_body(serve: Serve, path: str) -> None:
    with client(serve()) as http:
        get, head = http.get(path), http.head(path)

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "/-/quit", "//metrics", "/metrics/../etc/passwd"])
def test_unknown_paths_are_not_found(serve: Serve, path: str) -> None:
    with closing(connection(serve())) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

        assert raw.recv(100).startswith(b"HTTP/1.1 404 ")


def test_the_telemetry_path_can_be_chosen(serve: Serve) -> None:
    with client(serve(telemetry_path="/alerts/metrics")) as http:
        assert http.get("/alerts/metrics").status_code == 200
        assert http.get("/metrics").status_code == 404
        assert 'href="alerts/metrics"' in http.get("/").text


def test_health_and_readiness_name_the_sources_at_fault(serve: Serve) -> None:
    with client(serve(healthy=lambda: ["aom", "bk"])) as http:
        healthy, ready = http.get("/-/healthy"), http.get("/-/ready")

    assert (healthy.status_code, ready.status_code) == (503, 200)
    assert "aom, bk" in healthy.text


def test_reload_is_forbidden_unless_enabled(serve: Serve) -> None:
    with client(serve()) as http:
        assert [http.post("/-/reload").status_code, http.put("/-/reload").status_code] == [403, 403]
        assert http.get("/-/reload").status_code == 405


def test_reload_tells_how_it_went(serve: Serve) -> None:
    outcomes = iter([None, "sources.aom: endpoint: missing"])

    with client(serve(reload=lambda: next(outcomes))) as http:
        good, bad = http.post("/-/reload"), http.put("/-/reload")

        assert http.get("/-/reload").status_code == 405
    assert good.status_code == 200
    assert (bad.status_code, bad.text) == (500, "sources.aom: endpoint: missing\n")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://elsewhere.test"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://exporter.test", "host": "exporter.test"}, 200),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
def test_no_other_sites_page_can_cause_a_reload(serve: Serve, headers: dict[str, str], status: int) -> None:
    with client(serve(reload=lambda: None)) as http:
        assert http.post("/-/reload", headers=headers).status_code == status


def test_a_long_reload_does_not_delay_a_scrape(serve: Serve, reloads: Reloads) -> None:
    server = serve(reload=reloads)

    with closing(reloads.begun_at(server)), client(server) as http:
        assert http.get("/metrics").status_code == 200


def test_scrapes_are_answered_while_huge_polls_are_taken_in(serve: Serve) -> None:
    answers: list[int] = []
    book = a_book(max_records=1_000_000)
    with client(serve()) as http:
        scraper = threading.Thread(target=lambda: answers.extend(http.get("/metrics").status_code for _ in range(3)))
        scraper.start()

        for number in range(100):
            if len(answers) == 3:
                break
            book.enter(a_poll(OpenAlerts([an_alert(f"{number}-{place}") for place in range(10_000)])))

        assert answers == [200] * 3
        scraper.join()


def test_stopping_finishes_the_request_in_flight_and_frees_the_port(serve: Serve, reloads: Reloads) -> None:
    server = serve(reload=reloads)
    with closing(reloads.begun_at(server)) as raw:
        stopping = threading.Thread(target=server.stop, args=[10])
        stopping.start()
        reloads.done.set()
        answer = raw.recv(1000)
        stopping.join()

    assert answer.startswith(b"HTTP/1.1 200 ")
    serve(listen_address=f"127.0.0.1:{server.address[1]}")


def test_an_address_in_use_is_a_configuration_error(serve: Serve) -> None:
    taken = serve().address[1]

    with pytest.raises(ConfigError) as raised:
        serve(listen_address=f"127.0.0.1:{taken}")

    assert str(raised.value) == (
        f"web.listen_address: cannot listen on 127.0.0.1:{taken}: Address already in use; "
        "choose another address or stop what uses this one"
    )


@pytest.mark.parametrize(
    "address", ["nowhere", "127.0.0.1:", "127.0.0.1:http", ":70000", ":-1", "no.such.host.invalid:1"]
)
def test_an_address_that_means_nothing_is_a_configuration_error(serve: Serve, address: str) -> None:
    with pytest.raises(ConfigError, match=r"^web\.listen_address: "):
        serve(listen_address=address)


@pytest.mark.parametrize("address", [":0", "0.0.0.0:0", "localhost:0", "[::]:0"])
def test_all_ways_to_write_an_address_reach_loopback(serve: Serve, address: str) -> None:
    if "::" in address and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")

    with client(serve(listen_address=address)) as http:
        assert http.get("/-/healthy").status_code == 200


def is_dropped(raw: socket.socket) -> bool:
    try:
        while raw.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost:"])
def test_a_client_that_never_finishes_its_request_is_dropped(serve: Serve, sent: bytes) -> None:
    server = serve(limits=Limits(head_seconds=0.01))

    with closing(connection(server)) as raw:
        raw.sendall(sent)

        assert is_dropped(raw)


def test_a_client_that_never_finishes_its_second_request_is_dropped(serve: Serve) -> None:
    server = serve(limits=Limits(head_seconds=0.5))

    with closing(connection(server)) as raw:
        raw.sendall(REQUEST)
        assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")
        raw.sendall(b"GET /-/healthy HTTP/1.1\r\n")

        assert is_dropped(raw)


def test_a_client_that_sends_nothing_more_is_dropped_after_the_idle_time(serve: Serve) -> None:
    server = serve(limits=Limits(idle_seconds=0))

    with closing(connection(server)) as raw:
        raw.sendall(REQUEST)

        assert is_dropped(raw)


def test_a_connection_is_kept_for_the_next_request(serve: Serve) -> None:
    with closing(connection(serve())) as raw:
        for _ in range(3):
            raw.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"healthy\n"):
                answer += raw.recv(1000)

            assert answer.startswith(b"HTTP/1.1 200 ")


def test_two_requests_sent_at_once_are_both_answered(serve: Serve) -> None:
    last = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    with closing(connection(serve())) as raw:
        raw.sendall(REQUEST + last)
        answer = b"".join(iter(lambda: raw.recv(1000), b""))

    assert answer.count(b"HTTP/1.1 200 ") == 2


@pytest.fixture
def huge(shown: Shown) -> Shown:
    """More than a connection holds while its client does not read."""
    snapshot, exposition = shown.current
    text = replace(exposition.text, end=Part((bytes(32 * 1024 * 1024),), b""))
    return Shown(snapshot, replace(exposition, text=text))


def ask_for_ever(raw: socket.socket) -> None:
    while True:
        raw.sendall(REQUEST * 1000)


def stuck(server: Port) -> socket.socket:
    """A connection whose client asks and asks, and does not read the answers."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(10)
    raw.connect(("127.0.0.1", server.address[1]))
    raw.sendall(REQUEST.replace(b"/-/healthy", b"/metrics") + REQUEST)
    assert raw.recv(1, socket.MSG_PEEK)
    raw.settimeout(0.01)
    with suppress(TimeoutError, ConnectionError):
        ask_for_ever(raw)
    return raw


def half_sent(server: Port) -> socket.socket:
    raw = connection(server)
    raw.sendall(REQUEST[:-2])
    return raw


def idle(server: Port) -> socket.socket:
    raw = connection(server)
    raw.sendall(REQUEST)
    assert raw.recv(1000)
    return raw


@pytest.mark.parametrize("password", [None, "right"])
@pytest.mark.parametrize("occupy", [connection, half_sent, idle, stuck])
def test_connections_that_only_take_places_do_not_keep_a_scraper_out(
    serve: Serve, huge: Shown, tmp_path: Path, occupy: Callable[[Port], socket.socket], password: str | None
) -> None:
    web_config = tmp_path / "web.yml"
    web_config.write_text("" if password is None else f"basic_auth_users: {{ann: {hashed(password)}}}")
    server = serve(limits=Limits(connections=2), web_config_file=web_config, shown=huge)

    statuses = []
    with ExitStack() as flood:
        for _ in range(2):
            for _ in range(3):
                flood.enter_context(occupy(server))
            with client(server, auth=None if password is None else ("ann", password)) as http:
                statuses.append(http.get("/metrics", headers={"accept-encoding": "identity"}).status_code)

    assert statuses == [200, 200]


@pytest.mark.parametrize("occupy", [connection, half_sent, idle, stuck])
def test_a_reload_in_flight_outlives_connections_that_wait_for_their_clients(
    serve: Serve, huge: Shown, reloads: Reloads, occupy: Callable[[Port], socket.socket]
) -> None:
    server = serve(limits=Limits(connections=2), reload=reloads, shown=huge)
    with reloads.begun_at(server) as reloading, ExitStack() as flood:
        for _ in range(3):
            flood.enter_context(occupy(server))

        reloads.done.set()

        assert reloading.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_reloads_that_never_end_do_not_keep_a_scraper_out(serve: Serve, reloads: Reloads) -> None:
    server = serve(limits=Limits(connections=3), reload=reloads)

    with reloads.begun_at(server) as oldest, reloads.begun_at(server), reloads.begun_at(server), client(server) as http:
        assert http.get("/metrics").status_code == 200
        assert is_dropped(oldest)


@pytest.mark.parametrize("occupy", [connection, half_sent, idle, stuck])
def test_stopping_waits_for_no_client_and_reports_no_defect(
    serve: Serve, huge: Shown, caplog: pytest.LogCaptureFixture, occupy: Callable[[Port], socket.socket]
) -> None:
    server = serve(shown=huge)

    with occupy(server) as raw:
        server.stop(10)

        raw.settimeout(10)
        assert is_dropped(raw)
    assert caplog.records == []
    serve(listen_address=f"127.0.0.1:{server.address[1]}")


def test_stopping_waits_for_no_reload_and_reports_no_defect(
    serve: Serve, reloads: Reloads, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(reload=reloads)

    with reloads.begun_at(server) as raw:
        server.stop(10)

        assert is_dropped(raw)
    assert caplog.records == []


def test_a_client_that_does_not_read_its_answers_is_dropped(serve: Serve, huge: Shown) -> None:
    server = serve(limits=Limits(idle_seconds=0), shown=huge)

    with stuck(server) as raw:
        raw.settimeout(10)

        with pytest.raises(ConnectionError):
            ask_for_ever(raw)


def test_a_client_that_reads_late_gets_all_its_answers(serve: Serve, huge: Shown) -> None:
    first = REQUEST.replace(b"/-/healthy", b"/metrics")
    with connection(serve(shown=huge)) as raw:
        raw.sendall(first + REQUEST)
        assert raw.recv(1, socket.MSG_PEEK)
        raw.sendall(REQUEST[:-2] + b"Connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: raw.recv(2**20), b""))

    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert answers.endswith(b"healthy\n")


@pytest.mark.parametrize("request_line", [b"GET /metrics", b"GET /nothing", b"POST /-/reload"])
@pytest.mark.parametrize("later", [False, True])
def test_a_body_that_turns_out_wrong_ends_the_connection_and_is_no_defect(
    serve: Serve, caplog: pytest.LogCaptureFixture, request_line: bytes, later: bool
) -> None:
    head, body = request_line + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"no chunk\r\n"

    with closing(connection(serve())) as raw:
        raw.sendall(head if later else head + body)
        assert raw.recv(1, socket.MSG_PEEK) == b"H"
        if later:
            raw.sendall(body)

        assert is_dropped(raw)
    assert caplog.records == []


def test_a_body_that_turns_out_wrong_during_a_reload_is_answered_once(
    serve: Serve, reloads: Reloads, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(reload=reloads)
    with closing(connection(server)) as raw:
        raw.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert reloads.begun.acquire(timeout=10)
        raw.sendall(b"no chunk\r\n")

        answer = b"".join(iter(lambda: raw.recv(1000), b""))

    reloads.done.set()
    server.stop(10)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert caplog.records == []


@pytest.mark.parametrize(
    "request_line", [b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n"]
)
def test_an_overlong_head_is_refused(serve: Serve, request_line: bytes) -> None:
    with closing(connection(serve())) as raw:
        raw.sendall(request_line)

        assert raw.recv(1000).startswith(b"HTTP/1.1 4")


def test_the_landing_page_allows_nothing_but_its_own_style(serve: Serve) -> None:
    with client(serve()) as http:
        answer = http.get("/")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_status_is_json_that_nobody_keeps(serve: Serve) -> None:
    with client(serve()) as http:
        answer = http.get("/status")

    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    assert answer.json()["sources"][0]["source"] == "prod"


def test_the_landing_page_is_refreshed_unless_that_is_switched_off(serve: Serve) -> None:
    with client(serve()) as http:
        assert http.get("/").headers["refresh"] == "30"
        assert "refresh" not in http.get("/?refresh=off").headers
