"""What cannot be used is refused in words that repeat nothing of it: clocks, cursors, nesting, proxies."""

import gc
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from pydantic import ValidationError

from exporter.errors import ConfigError, FetchError, Reason
from exporter.logs import without_secrets
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import SourceConfig
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import network_for
from tests.builders import START
from tests.certificates import lock_key, make_certificate


def a_source(**settings: Any) -> SourceConfig:
    return SourceConfig(vendor="acme", endpoint="https://vendor.invalid", **settings)


@pytest.mark.parametrize(
    "date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 1900 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "soon"]
)
def test_a_date_that_is_no_clock_teaches_nothing(date: str) -> None:
    clock = VendorClock(lambda: START, lambda: 0.0)

    clock.hear("Fri, 02 Jan 2026 03:24:05 GMT")
    clock.hear(date)

    assert clock.now() == START + timedelta(minutes=20)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("cursor", "status", "body", "why", "reason"),
    [
        ("x" * 100_000, 200, b"{}", "does not fit into a URL", Reason.BAD_RESPONSE),
        ("", 200, b"[" * 100_000, "nested too deep", Reason.BAD_RESPONSE),
        ("", 200, b'["\xff"]', "not valid JSON", Reason.BAD_RESPONSE),
        ("", 500, b'{"a":' * 100_000, "HTTP 500", Reason.SERVER_ERROR),
        ("", 401, b'{"a": "\xff"}', "HTTP 401", Reason.AUTH),
        ("", 403, b"<html>", "HTTP 403", Reason.PERMISSION),
    ],
)
async def test_a_cursor_or_an_answer_beyond_reason_fails_the_poll(
    cursor: str, status: int, body: bytes, why: str, reason: Reason
) -> None:
    answer = httpx.MockTransport(lambda _request: httpx.Response(status, content=body))
    async with httpx.AsyncClient(transport=answer) as client:
        http = Http(client, "http://vendor.invalid")
        http.begin(anyio.current_time() + 60)

        with pytest.raises(FetchError, match=why) as raised:
            await http.ask(
                "events",
                "GET",
                "/events",
                query={"cursor": cursor},
                read=msgspec.json.Decoder(list[Any]).decode,
                judge=lambda _status, content: msgspec.json.decode(content),
            )

    assert raised.value.reason is reason
    assert len(str(raised.value)) < 200


UNUSABLE = ["socks5://u:s3cret@h:1", "ftp://u:s3cret@h", "u:s3/cret@h:1", "http://u:s3/cret@h:1", "http://", "::"]


@pytest.mark.parametrize("proxy", UNUSABLE)
def test_a_proxy_that_is_none_is_refused_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as of_setting:
        a_source(proxy=proxy)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigError, match="proxy environment variable") as of_variable:
        network_for(a_source())

    for error in (of_setting.value, of_variable.value):
        assert "must be http://HOST:PORT" in str(error)
        assert "s3" not in str(error)


@pytest.mark.parametrize("proxy", [None, "none", "http://proxy.invalid:3128", "https://u:p%40ss-of-a-proxy@[::1]:1"])
def test_the_password_of_a_proxy_is_no_text_for_a_log(proxy: str | None) -> None:
    source = a_source(proxy=proxy)
    gc.collect()  # secrets of other tests would be hidden as well, and some have one letter

    network_for(source)

    assert "p%40ss" not in repr(source)
    if proxy and "@" in proxy:
        assert without_secrets(f"p@ss-of-a-proxy {proxy}") == "*** https://u:***@[::1]:1"


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ({"ca_file": "x.pem"}, ["tls.ca_file: holds no certificate in PEM"]),
        ({"ca_file": "a.key", "cert_file": "x.pem", "key_file": "a.key"}, ["tls.ca_file: ", "tls.cert_file: holds no"]),
        ({"cert_file": "a.pem", "key_file": "x.pem"}, ["tls.key_file: holds no key of cert_file in PEM"]),
        ({"cert_file": "a.pem", "key_file": "b.key"}, ["tls.key_file: "]),
        ({"cert_file": "a.pem", "key_file": "locked.key"}, ["tls.key_file: "]),
        ({"ca_file": "gone.pem", "cert_file": "a.pem", "key_file": "a.key"}, ["tls.ca_file: cannot be read: No such"]),
    ],
)
def test_files_that_no_tls_can_use_are_told_by_their_keys(
    files: dict[str, str], problems: list[str], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        make_certificate(tmp_path, name)
    (tmp_path / "x.pem").write_text("s3cret")
    lock_key(tmp_path, "a", password="x", into="locked")
    (tmp_path / "gone.pem").touch()
    source = a_source(proxy="none", tls={key: tmp_path / name for key, name in files.items()})
    (tmp_path / "gone.pem").unlink()

    with pytest.raises(ConfigError) as raised:
        network_for(source)

    assert len(raised.value.problems) == len(problems)
    for told, expected in zip(raised.value.problems, problems, strict=True):
        assert told.startswith(expected)
