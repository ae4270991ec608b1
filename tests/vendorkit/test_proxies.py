"""Which proxy leads where, in the forms that curl and programs written in Go understand."""

import pytest

from exporter.vendorkit.proxies import checked_proxy, not_understood, proxy_for

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("", [], ["http://a.test", "http://127.0.0.1", "http://[::1]"]),
        ("*", ["http://a.test", "http://10.1.2.3", "http://[::1]:8080"], []),
        ("a.test", ["http://a.test", "http://b.a.test", "http://A.Test:8080"], ["http://ba.test", "http://test"]),
        (".a.test", ["http://a.test", "http://b.a.test"], ["http://ba.test"]),
        ("*.a.test", ["http://b.a.test"], ["http://ba.test"]),
        ("a.test.", ["http://a.test", "http://a.test./"], []),
        ("a.test:8080", ["http://a.test:8080"], ["http://a.test", "http://a.test:80"]),
        ("a.test:80", ["http://a.test", "http://a.test:80"], ["https://a.test", "http://a.test:8080"]),
        ("a.test:443", ["https://a.test"], ["http://a.test"]),
        ("localhost", ["http://localhost:1"], ["http://127.0.0.1:1"]),
        ("10.0.0.0/8", ["http://10.1.2.3:8080"], ["http://11.1.2.3", "http://a.test"]),
        ("10.1.2.3/8", ["http://10.9.9.9"], ["http://11.1.2.3"]),
        ("127.0.0.1", ["http://127.0.0.1:7"], ["http://127.0.0.2", "http://localhost"]),
        ("127.0.0.1:7", ["http://127.0.0.1:7"], ["http://127.0.0.1:8"]),
        ("::1", ["http://[::1]:7"], ["http://[::2]:7"]),
        ("[::1]", ["http://[::1]:7"], ["http://[::2]:7"]),
        ("[::1]:7", ["http://[::1]:7"], ["http://[::1]:8"]),
        ("::1/128", ["http://[::1]:7"], ["http://[::2]:7"]),
        ("fd00::/8", ["http://[fd12::5]"], ["http://[fe12::5]", "http://10.1.2.3"]),
        ("0:0:0:0:0:0:0:1", ["http://[::1]"], []),
        ("0.1", [], ["http://10.0.0.1"]),
        ("münchen.test", ["http://xn--mnchen-3ya.test", "http://münchen.test"], []),
        (" x.test ,\t127.0.0.0/8  a.test,", ["http://127.1.1.1", "http://a.test", "http://x.test"], ["http://c.test"]),
        ("127.,a.test", ["http://a.test"], ["http://127.0.0.1"]),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_no_proxy_excepts_is_asked_directly(
    no_proxy: str, direct: list[str], proxied: list[str], name: str
) -> None:
    environ = {"http_proxy": PROXY, "HTTPS_PROXY": PROXY, name: no_proxy}

    assert {url: proxy_for(url, None, environ) for url in direct} == dict.fromkeys(direct)
    assert {url: proxy_for(url, None, environ) for url in proxied} == dict.fromkeys(proxied, PROXY)


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"http_proxy": PROXY}, PROXY, None),
        ({"HTTP_PROXY": PROXY}, PROXY, None),
        ({"https_proxy": PROXY}, None, PROXY),
        ({"all_proxy": PROXY}, PROXY, PROXY),
        ({"ALL_PROXY": PROXY, "https_proxy": "http://other.test:1"}, PROXY, "http://other.test:1"),
        ({"http_proxy": "", "HTTP_PROXY": PROXY}, None, None),
        ({"http_proxy": "proxy.test:3128"}, PROXY, None),
    ],
)
def test_the_variable_of_the_scheme_decides(environ: dict[str, str], http: str | None, https: str | None) -> None:
    assert (proxy_for("http://a.test", None, environ), proxy_for("https://a.test", None, environ)) == (http, https)


def test_the_setting_of_a_source_overrules_every_variable() -> None:
    environ = {"http_proxy": PROXY, "no_proxy": "a.test"}

    assert proxy_for("http://b.test", "none", environ) is None
    assert proxy_for("http://a.test", "http://other.test:1", environ) == "http://other.test:1"


def test_a_variable_that_does_not_apply_may_hold_anything() -> None:
    assert proxy_for("http://a.test", None, {"http_proxy": "socks5://x", "no_proxy": "a.test"}) is None
    with pytest.raises(ValueError, match="must be http://HOST:PORT"):
        proxy_for("http://b.test", None, {"http_proxy": "socks5://x", "no_proxy": "a.test"})


@pytest.mark.parametrize(
    "entry",
    (
        "127. 10.0.0 10.* a.* 10.0.0.0/33 10.0.0.0/8:80 http://a.test a.test/x a.test:http a.test:0 a.test:70000 "
        "<local> - a..b [::1 ::g 192.168.1.300"
    ).split(),
)
def test_an_entry_that_excepts_nothing_is_named(entry: str) -> None:
    assert not_understood(f"a.test, {entry} ,*,::1,[::1]:7,10.0.0.0/8,.b.test,*.c.test,localhost,my_host:80") == [entry]


@pytest.mark.parametrize("setting", ["HTTP://proxy.test:3128", None])
def test_the_scheme_of_a_proxy_may_be_in_upper_case(setting: str | None) -> None:
    found = (
        checked_proxy(setting)
        if setting
        else proxy_for("http://a.test", None, {"HTTP_PROXY": "Http://proxy.test:3128"})
    )

    assert found == PROXY
    assert checked_proxy("NONE") == "NONE"
