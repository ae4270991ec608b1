import asyncio
import logging
import shutil
import socket
import ssl
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from exporter.errors import ConfigError
from exporter.exposition import webconfig
from exporter.exposition.port import Limits, Port
from tests.certificates import make_certificate
from tests.exposition.conftest import Serve

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
OTHER_HASH = bcrypt.hashpw(b"fresh", bcrypt.gensalt(4)).decode()


@pytest.fixture
def directory(tmp_path: Path, certificates: Path) -> Path:
    """A directory with certificates of its own, which a test may replace."""
    shutil.copytree(certificates, tmp_path, dirs_exist_ok=True)
    return tmp_path


def written(directory: Path, text: str) -> Path:
    path = directory / "web.yml"
    path.write_text(text)
    return path


def tls_with(directory: Path, *lines: str) -> Path:
    text = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
    return written(directory, text + "".join(f"  {line}\n" for line in lines))


def trust(directory: Path, client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    if client is not None:
        context.load_cert_chain(directory / f"{client}.pem", directory / f"{client}.key")
    return context


def get(server: Port, context: ssl.SSLContext | None = None, **options: Any) -> httpx.Response:
    """One request over a connection of its own."""
    scheme = "http" if context is None else "https"
    with httpx.Client(verify=context or False, trust_env=False, timeout=10) as http:
        return http.get(f"{scheme}://127.0.0.1:{server.address[1]}/-/healthy", **options)


def is_let_in(server: Port, context: ssl.SSLContext) -> bool:
    try:
        return get(server, context).status_code == 200
    except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
        return False


def certificate_of(server: Port, context: ssl.SSLContext) -> bytes | None:
    with (
        socket.create_connection(("127.0.0.1", server.address[1]), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        return tls.getpeercert(binary_form=True)


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        webconfig.check(path)
    return tuple(problem.removeprefix(f"{path}: ") for problem in raised.value.problems)


@pytest.mark.parametrize("text", ["", "tls_server_config:\nbasic_auth_users:\n", "http_server_config: {http2: false}"])
def test_a_file_that_asks_for_nothing_changes_nothing(directory: Path, serve: Serve, text: str) -> None:
    assert get(serve(web_config_file=written(directory, text))).status_code == 200


def test_every_problem_is_told_at_once_and_no_secret(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "tls_server_config: {cert_file: a.pem, min_version: TLS10}\n"
        "basic_auth_users: {ann: hunter2}\n"
        "http_server_config: {headers: {X-Frame-Options: maybe}}\n"
        "rate: 1\n",
    )

    problems = problems_of(path)

    assert problems == (
        "tls_server_config.key_file: missing",
        "tls_server_config.min_version: Input should be 'TLS12' or 'TLS13'",
        "http_server_config.headers: X-Frame-Options must be deny or sameorigin",
        "basic_auth_users: no bcrypt hash for ann: make one with htpasswd -nBC 10 USER",
        "rate: unknown key",
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["client_auth_type: RequireAndVerifyClientCert"], "needs client_ca_file"),
        (["client_auth_type: RequireAnyClientCert"], "needs client_ca_file"),
        (["client_ca_file: ca.pem"], "has no effect"),
        (["client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem", "client_allowed_sans: [a]"], "sans"),
        (["min_version: TLS13", "max_version: TLS12"], "min_version is above max_version"),
        (["cipher_suites: [TLS_AES_128_GCM_SHA256]"], "cipher_suites: not supported by this exporter; those of min_v"),
        (["cert: x"], "cert: not supported by this exporter; name a file: cert_file"),
        (["client_auth_type: Sometimes"], "Input should be 'NoClientCert'"),
        (["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.key"], "client_ca_file: "),
        (
            ["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: gone.pem"],
            "client_ca_file: there is no such file",
        ),
        (["typo: 1"], "typo: unknown key"),
    ],
)
def test_tls_settings_that_cannot_work_are_refused(directory: Path, lines: list[str], problem: str) -> None:
    [found] = problems_of(tls_with(directory, *lines))

    assert found.startswith("tls_server_config")
    assert problem in found


def test_a_key_of_another_certificate_is_refused(directory: Path) -> None:
    shutil.copy(directory / "client.key", directory / "server.key")

    [problem] = problems_of(tls_with(directory))

    assert problem == "tls_server_config.cert_file, key_file: cannot be used (KEY_VALUES_MISMATCH)"


@pytest.mark.parametrize("name", ["a/b.pem", "/c.key", '"a\\0b"', "x" * 5000])
def test_every_file_that_is_missing_is_told_by_its_key(tmp_path: Path, name: str) -> None:
    problems = problems_of(written(tmp_path, f"tls_server_config: {{cert_file: {name}, key_file: {name}}}"))

    assert problems == (
        "tls_server_config.cert_file: there is no such file; check the path",
        "tls_server_config.key_file: there is no such file; check the path",
    )


def test_tls_is_spoken_in_the_versions_allowed_and_plain_http_is_not(
    directory: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(web_config_file=tls_with(directory, "min_version: TLS13"))
    old = trust(directory)
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    assert is_let_in(server, trust(directory))
    assert not is_let_in(server, old)
    with pytest.raises(httpx.TransportError):
        get(server)
    assert is_let_in(server, trust(directory))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("mode", "ca", "let_in"),
    [
        ("NoClientCert", False, {None, "client", "stranger"}),
        ("RequestClientCert", False, {None, "client", "stranger"}),
        ("RequestClientCert", True, {None, "client", "stranger"}),
        ("RequireAnyClientCert", True, {"client"}),
        ("RequireClientCert", True, {"client"}),
        ("VerifyClientCertIfGiven", True, {None, "client"}),
        ("RequireAndVerifyClientCert", True, {"client"}),
    ],
)
def test_client_certificates(directory: Path, serve: Serve, mode: str, ca: bool, let_in: set[str | None]) -> None:
    lines = [f"client_auth_type: {mode}", *(["client_ca_file: ca.pem"] if ca else [])]
    server = serve(web_config_file=tls_with(directory, *lines))

    assert {who for who in (None, "client", "stranger") if is_let_in(server, trust(directory, who))} == let_in


@pytest.mark.parametrize(
    ("names", "let_in"), [("[prometheus.test]", True), ("['::1']", True), ("[grafana.test]", False), ("[]", False)]
)
def test_client_certificates_can_be_told_apart_by_name(directory: Path, serve: Serve, names: str, let_in: bool) -> None:
    required = ["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem"]

    server = serve(web_config_file=tls_with(directory, *required, f"client_allowed_sans: {names}"))

    assert is_let_in(server, trust(directory, "client")) == let_in


def test_a_renewed_certificate_is_served_without_a_restart(directory: Path, serve: Serve) -> None:
    server = serve(web_config_file=tls_with(directory))
    first = certificate_of(server, trust(directory))

    make_certificate(directory, "server", issuer="ca")

    assert certificate_of(server, trust(directory)) not in {None, first}


def test_tightened_settings_hold_for_the_next_connection(directory: Path, serve: Serve) -> None:
    server = serve(web_config_file=tls_with(directory))
    assert is_let_in(server, trust(directory))

    tls_with(directory, "client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem")

    assert not is_let_in(server, trust(directory))
    assert is_let_in(server, trust(directory, "client"))


def test_a_file_that_becomes_bad_keeps_the_last_good_content_and_is_reported_once(
    directory: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(web_config_file=tls_with(directory))
    good = (directory / "server.pem").read_bytes()

    (directory / "server.pem").write_text("no certificate")
    answers = [get(server, trust(directory)).status_code for _ in range(3)]
    (directory / "server.pem").write_bytes(good)
    answers.append(get(server, trust(directory)).status_code)

    assert answers == [200] * 4
    assert [record.levelname for record in caplog.records if record.name == webconfig.__name__] == ["ERROR"]


def test_tls_is_not_switched_off_by_an_edit(directory: Path, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(web_config_file=tls_with(directory))

    written(directory, "{}")

    assert is_let_in(server, trust(directory))
    assert "turning TLS on or off needs a restart" in caplog.text


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/-/ready", "/-/reload", "/nothing"])
def test_without_the_password_every_path_is_refused_with_an_empty_body(tmp_path: Path, serve: Serve, path: str) -> None:
    server = serve(web_config_file=written(tmp_path, f"basic_auth_users: {{ann: {HASH}}}"), reload=lambda: None)
    url = f"http://127.0.0.1:{server.address[1]}{path}"

    with httpx.Client(trust_env=False) as http:
        answers = [http.request(method, url) for method in ("GET", "HEAD", "POST")]

    for answer in answers:
        assert (answer.status_code, answer.content, answer.headers["www-authenticate"]) == (401, b"", "Basic")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Basic YW5uOnJpZ2h0"}, 200),  # ann:right
        ({"authorization": "basic  YW5uOnJpZ2h0"}, 200),
        ({"authorization": "Basic YW5uOndyb25n"}, 401),  # ann:wrong
        ({"authorization": "Basic Ym9iOnJpZ2h0"}, 401),  # bob:right
        ({"authorization": "Basic YW5u"}, 401),  # ann
        ({"authorization": "Basic YW5uOgBhYg=="}, 401),  # a NUL in the password
        ({"authorization": "Basic /////w=="}, 401),
        ({"authorization": "Basic ???"}, 401),
        ({"authorization": "Bearer YW5uOnJpZ2h0"}, 401),
        ({"authorization": ""}, 401),
    ],
)
def test_only_a_known_user_with_the_right_password_is_let_in(
    tmp_path: Path, serve: Serve, headers: dict[str, str], status: int
) -> None:
    server = serve(web_config_file=written(tmp_path, f"basic_auth_users: {{ann: {HASH}}}"))

    assert [get(server, headers=headers).status_code for _ in range(2)] == [status] * 2


def test_users_are_read_again_without_a_restart(tmp_path: Path, serve: Serve) -> None:
    server = serve(web_config_file=written(tmp_path, f"basic_auth_users: {{ann: {HASH}}}"))
    before = get(server, auth=("ann", "right")).status_code

    written(tmp_path, f"basic_auth_users:\n  ann: {OTHER_HASH}\n")

    assert before == 200
    assert get(server, auth=("ann", "right")).status_code == 401
    assert get(server, auth=("ann", "fresh")).status_code == 200


RIGHT, WRONG, UNKNOWN = (
    "Basic YW5uOnJpZ2h0",
    "Basic YW5uOndyb25n",
    "Basic Ym9iOnJpZ2h0",
)  # ann:right, ann:wrong, bob:right


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that bcrypt was given."""
    passwords: list[bytes] = []
    real = bcrypt.checkpw

    def compare(password: bytes, hashed: bytes) -> bool:
        passwords.append(password)
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", compare)
    return passwords


def test_a_password_is_hashed_once_and_not_at_every_scrape(tmp_path: Path, compared: list[bytes]) -> None:
    config = webconfig.WebConfig(written(tmp_path, f"basic_auth_users: {{ann: {HASH}}}"))

    async def ask() -> list[bool]:
        return [await config.admits(header, "::1") for header in [RIGHT] * 3 + [WRONG] * 2 + [UNKNOWN]]

    assert asyncio.run(ask()) == [True] * 3 + [False] * 3
    assert compared == [b"right", b"wrong", b"wrong", b"right"]  # that of an unknown user is compared too


async def answers_amid_guesses(
    config: webconfig.WebConfig, *, address: str, guesses: int, guesser: str = "192.0.2.1"
) -> list[bool]:
    """What the right password gets between guesses that all come from one client; all ask at once."""
    flood = [config.admits(WRONG, guesser.format(place)) for place in range(2 * guesses)]
    return await asyncio.gather(*flood[:guesses], config.admits(RIGHT, address), *flood[guesses:])


@pytest.mark.parametrize(
    ("guesser", "address", "guesses"),
    [
        ("192.0.2.1", "192.0.2.2", 500),
        ("192.0.2.1", "192.0.2.1", 20),
        ("2001:db8::{:x}", "2001:db8:0:1::1", 500),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", 500),
        ("fe80::{:x}%eth0", "", 500),
    ],
)
def test_the_right_password_is_let_in_amid_guesses(
    tmp_path: Path, compared: list[bytes], guesser: str, address: str, guesses: int
) -> None:
    config = webconfig.WebConfig(written(tmp_path, f"basic_auth_users: {{ann: {HASH}}}"))

    answers = asyncio.run(answers_amid_guesses(config, address=address, guesses=guesses, guesser=guesser))

    assert [place for place, answer in enumerate(answers) if answer] == [guesses]
    assert len(compared) < 100  # a flood of guesses is refused rather than queued


def test_a_renewed_certificate_does_not_make_a_password_that_passed_wait(
    directory: Path, compared: list[bytes]
) -> None:
    path = tls_with(directory)
    path.write_text(path.read_text() + f"basic_auth_users: {{ann: {HASH}}}\n")
    config = webconfig.WebConfig(path)
    before = config.now()

    async def ask() -> list[bool]:
        first = await config.admits(RIGHT, "192.0.2.1")
        compared.clear()
        make_certificate(directory, "server", issuer="ca")
        return [first, *await answers_amid_guesses(config, address="192.0.2.1", guesses=100)]

    answers = asyncio.run(ask())

    assert config.now() is not before
    assert [place for place, answer in enumerate(answers) if answer] == [0, 101]
    assert set(compared) == {b"wrong"}


def test_chosen_headers_are_on_every_answer_and_blank_ones_on_none(tmp_path: Path, serve: Serve) -> None:
    path = written(
        tmp_path,
        f"basic_auth_users: {{ann: {HASH}}}\n"
        "http_server_config:\n  headers: {Strict-Transport-Security: max-age=60, X-Frame-Options: deny, "
        "X-XSS-Protection: ''}\n",
    )
    server = serve(web_config_file=path)

    for answer in (get(server), get(server, auth=("ann", "right"))):
        assert answer.headers["strict-transport-security"] == "max-age=60"
        assert answer.headers["x-frame-options"] == "deny"
        assert "x-xss-protection" not in answer.headers


@pytest.mark.parametrize("header", ["Server: x", "X-Content-Type-Options: sniff", 'X-XSS-Protection: "1\\r\\nEvil: 1"'])
def test_no_other_header_can_be_set(tmp_path: Path, header: str) -> None:
    [problem] = problems_of(written(tmp_path, f"http_server_config: {{headers: {{{header}}}}}"))

    assert problem.startswith("http_server_config.headers: ")


def test_connections_that_never_say_hello_do_not_keep_a_scraper_out(directory: Path, serve: Serve) -> None:
    server = serve(web_config_file=tls_with(directory), limits=Limits(connections=2))

    let_in = []
    with ExitStack() as silent:
        for _ in range(15):
            silent.enter_context(socket.create_connection(("127.0.0.1", server.address[1]), timeout=10))
            let_in.append(is_let_in(server, trust(directory)))

    assert let_in == [True] * 15


def test_a_handshake_that_never_ends_is_dropped(directory: Path, serve: Serve) -> None:
    server = serve(web_config_file=tls_with(directory), limits=Limits(head_seconds=0.01))

    with socket.create_connection(("127.0.0.1", server.address[1]), timeout=10) as raw, suppress(ConnectionResetError):
        assert raw.recv(1) == b""


def test_stopping_waits_for_no_client_that_does_not_end_its_side(
    directory: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(web_config_file=tls_with(directory))
    with (
        socket.create_connection(("127.0.0.1", server.address[1]), timeout=10) as silent,
        socket.create_connection(("127.0.0.1", server.address[1]), timeout=10) as raw,
        trust(directory).wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert tls.recv(100).startswith(b"HTTP/1.1 200 ")

        server.stop(10)

        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""
    assert caplog.records == []


def test_no_password_and_no_hash_is_ever_logged(tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(web_config_file=written(tmp_path, f"basic_auth_users: {{ann: {HASH}}}"))

    get(server, auth=("ann", "right"))
    written(tmp_path, f"basic_auth_users: {{ann: x{HASH}}}\n")
    get(server, auth=("ann", "right"))

    assert "the web configuration is invalid" in caplog.text
    assert HASH not in caplog.text
    assert "right" not in caplog.text


def test_the_documentation_names_every_key_that_is_taken_and_every_one_that_is_not() -> None:
    page = (Path(__file__).parents[2] / "docs" / "web-configuration.md").read_text()

    for model in (webconfig.WebFile, webconfig.TlsServer, webconfig.HttpServer):
        for key in model.model_fields:
            assert key in page
    for key in webconfig.NOT_TAKEN:
        assert f"`{key}`" in page
