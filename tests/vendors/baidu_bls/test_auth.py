"""Signatures against published vectors: the vendor's documented example and the output of its own SDK signers."""

import warnings
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Metrics
from exporter.errors import Reason
from exporter.fleet import Watch
from exporter.vendors.baidu_bls.auth import auth_for, signature
from exporter.vendors.baidu_bls.config import BaiduBlsConfig

with warnings.catch_warnings():  # of how it is written
    warnings.simplefilter("ignore")
    from baidubce import utils
    from baidubce.auth import bce_v1_signer
    from baidubce.auth.bce_credentials import BceCredentials

AT = datetime(2025, 11, 1, 12, 0, tzinfo=UTC)
AK, SK = "ak0123456789abcdef0123456789abcd", "sk0123456789abcdef0123456789abcd"
PREFIX = f"bce-auth-v1/{AK}/2025-11-01T12:00:00Z/1800"
BASIC = {"host": "bls-log.bj.baidubce.com", "x-bce-date": "2025-11-01T12:00:00Z"}
JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "expected"),
    [
        (
            "GET",
            "/v1/alarm/record",
            "id=a-8aab556f3f7b",
            BASIC,
            "80d8e1953a80e38a409f19c1add71e1fcc5ca3f614eca75e871319525ca2c18e",
        ),
        (
            "POST",
            "/v1/alarm/record/list",
            "",
            BASIC | JSON,
            "696210feda83a0243f1e64a8aef5f1ea822dfbd88ff76ca12cecc1d84bbf422d",
        ),
        (
            "GET",
            "/v1/logstore/%E6%97%A5%E5%BF%97%20%E9%9B%86%2Ba~b/index",
            "project=a%20b%2Fc%26d%3D%E4%B8%AD~&empty=&Zed=1",
            BASIC,
            "4022125f8201db53e3e493712f593231760f42003501a8597bd0f56cd3a5770f",
        ),
        (
            "GET",
            "/v1/alarm/record",
            "id=a-8aab556f3f7b",
            BASIC | {"x-bce-security-token": "tok/EN+=="},
            "7da9faf8bf4c96118ad30e84b736d696a2a0de669d889726d405479dce507e30",
        ),
        (
            "GET",
            "/v1/alarm/record",
            "alarmId=a-8aab556f3f7b",
            BASIC | {"host": "localhost:8080"},
            "b9d399cada9a8aac1d4ee2ab9033fec8a3a303b5594a3a2b0f92477e31676b77",
        ),
        (
            "POST",
            "/v1/alarm/record/list",
            "",
            BASIC | JSON | {"content-length": "43"},
            "87479683cb4433aabda8794c9e8b4f23d03d2bda8ecbe899b1db1b80853aeb7b",
        ),
    ],
)
def test_signs_as_the_vendors_sdk_does(
    method: str, path: str, query: str, headers: dict[str, str], expected: str
) -> None:
    assert signature(SK, PREFIX, method, path, query, headers) == expected


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning:baidubce.utils")
@given(
    st.lists(st.text(min_size=1, max_size=8).filter(lambda text: text not in {".", ".."}), max_size=4),
    st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=5),
    st.sampled_from(["GET", "POST"]),
)
def test_signs_whatever_path_and_query_as_the_vendors_sdk_does(
    segments: list[str], parameters: dict[str, str], method: str
) -> None:
    url = httpx.URL("https://bls-log.bj.baidubce.com/" + "/".join(quote(text, safe="") for text in segments))
    path, query = url.raw_path.decode(), urlencode(parameters, quote_via=quote)
    written = {name.encode(): value.encode() for name, value in parameters.items()}
    headers = {name.encode(): value.encode() for name, value in BASIC.items()}

    sealed = bce_v1_signer.sign(
        BceCredentials(AK, SK),
        method.encode(),
        b"/" + b"/".join(map(utils.normalize_string, segments)),
        headers,
        written,
        int(AT.timestamp()),
        1800,
        sorted(headers),
    )

    assert signature(SK, PREFIX, method, path, query, BASIC) == sealed.decode().rpartition("/")[2]


def test_signs_the_example_of_the_manual() -> None:
    headers = {
        "host": "bj.bcebos.com",
        "content-length": "8",
        "content-md5": "NFzcPqhviddjRNnSOGo4rw==",
        "content-type": "text/plain",
        "x-bce-date": "2015-04-27T08:23:49Z",
    }
    prefix = f"bce-auth-v1/{'a' * 32}/2015-04-27T08:23:49Z/1800"
    query = "partNumber=9&uploadId=a44cc9bab11cbd156984767aad637851"

    sealed = signature("b" * 32, prefix, "PUT", "/v1/test/myfolder/readme.txt", query, headers)

    assert sealed == "d74a04362e6a848f5b39b15421cb449427f419c95a480fd6b8cf9fc783e2999e"


def test_sorts_whole_pairs_and_leaves_an_authorization_parameter_out() -> None:
    sealed = [
        signature(SK, PREFIX, "GET", "/", query, BASIC)
        for query in ("text=1&text1=2&text10=3", "text10=3&text=1&text1=2", "text1=2&Authorization=x&text10=3&text=1")
    ]

    assert len(set(sealed)) == 1
    assert sealed[0] != signature(SK, PREFIX, "GET", "/", "text=1&text10=2&text1=3", BASIC)


class Clock:
    """The vendor's clock, as answers correct it."""

    def __init__(self, *, corrected_by: timedelta = timedelta(0)) -> None:
        self._corrected_by = corrected_by
        self.time = AT

    def now(self) -> datetime:
        return self.time

    def hear(self) -> None:
        self.time += self._corrected_by


def signed(answers: list[httpx.Response], clock: Clock, url: str, **auth: Any) -> list[dict[str, str]]:
    """The headers of each request that is sent while the vendor gives these answers."""
    given = {"access_key": AK, "secret_key": SK, **auth}
    config = BaiduBlsConfig.model_validate({"vendor": "baidu_bls", "endpoint": "http://localhost", "auth": given})
    flow = auth_for(config, clock.now).auth_flow(httpx.Request("GET", url))
    sent = []
    request = next(flow)
    for answer in answers:
        sent.append(dict(request.headers))
        clock.hear()
        try:
            request = flow.send(answer)
        except StopIteration:
            break
    return sent


def test_a_request_carries_its_date_and_lists_what_is_signed() -> None:
    url = "https://bls-log.bj.baidubce.com/v1/alarm/record?id=a-8aab556f3f7b"

    [headers] = signed([httpx.Response(200)], Clock(), url)

    assert headers["x-bce-date"] == "2025-11-01T12:00:00Z"
    assert headers["authorization"] == (
        f"{PREFIX}/host;x-bce-date/80d8e1953a80e38a409f19c1add71e1fcc5ca3f614eca75e871319525ca2c18e"
    )


def test_the_port_is_signed_as_it_is_sent() -> None:
    url = "http://localhost:8080/v1/alarm/record?alarmId=a-8aab556f3f7b"

    [headers] = signed([httpx.Response(200)], Clock(), url)

    assert headers["authorization"].endswith("/b9d399cada9a8aac1d4ee2ab9033fec8a3a303b5594a3a2b0f92477e31676b77")


def test_a_session_token_is_sent_and_signed() -> None:
    url = "https://bls-log.bj.baidubce.com/v1/alarm/record?id=a-8aab556f3f7b"

    [headers] = signed([httpx.Response(200)], Clock(), url, session_token="tok/EN+==")

    assert headers["x-bce-security-token"] == "tok/EN+=="
    assert headers["authorization"].endswith(
        "/host;x-bce-date;x-bce-security-token/7da9faf8bf4c96118ad30e84b736d696a2a0de669d889726d405479dce507e30"
    )


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(400, json={"code": "RequestExpired", "message": "Request has expired.", "requestId": "1"}),
        httpx.Response(403, json={"code": "RequestTimeTooSkewed"}),
        httpx.Response(200, json={"success": False, "code": "RequestExpired"}),
        httpx.Response(401, json={"code": "Unauthorized"}),
        httpx.Response(401, text="<html>no</html>"),
    ],
)
def test_a_refusal_that_corrects_the_clock_is_answered_once_with_a_new_signature(refusal: httpx.Response) -> None:
    clock = Clock(corrected_by=timedelta(hours=-3))

    sent = signed([refusal, refusal, refusal], clock, "http://localhost/v1/alarm/record?id=a")

    assert [headers["x-bce-date"] for headers in sent] == ["2025-11-01T12:00:00Z", "2025-11-01T09:00:00Z"]
    assert sent[0]["authorization"] != sent[1]["authorization"]


@pytest.mark.parametrize(
    ("refusal", "corrected_by"),
    [
        (httpx.Response(401, json={"code": "Unauthorized"}), timedelta(seconds=20)),
        (httpx.Response(400, json={"code": "SignatureDoesNotMatch"}), timedelta(hours=3)),
        (httpx.Response(200, json={"success": True}), timedelta(hours=3)),
    ],
)
def test_nothing_else_is_asked_again(refusal: httpx.Response, corrected_by: timedelta) -> None:
    sent = signed([refusal, refusal], Clock(corrected_by=corrected_by), "http://localhost/v1/alarm/record?id=a")

    assert len(sent) == 1


def test_a_rotated_secret_file_is_used_at_once(tmp_path: Any) -> None:
    secret = tmp_path / "sk"
    secret.write_text("old\n")
    given = {"access_key": AK, "secret_key_file": str(secret)}
    config = BaiduBlsConfig.model_validate({"vendor": "baidu_bls", "endpoint": "http://localhost", "auth": given})
    auth = auth_for(config, lambda: AT)
    request = httpx.Request("GET", "http://localhost/")
    before = next(auth.auth_flow(request)).headers["authorization"]

    secret.write_text("newer\n")

    assert next(auth.auth_flow(request)).headers["authorization"] != before


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["access_key", "session_token"])
@pytest.mark.parametrize("value", ["c\u00e4nary", "can\nary", "can\x7fary"])
async def test_a_key_that_no_header_can_carry_fails_as_auth_without_being_told(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    def nobody(_request: httpx.Request) -> httpx.Response:
        raise AssertionError("what cannot be signed is not sent")

    given = {"access_key": AK, "secret_key": SK, name: value}
    config = BaiduBlsConfig.model_validate({"vendor": "baidu_bls", "endpoint": "http://localhost", "auth": given})
    watch = Watch("a", config, Metrics(), published=lambda: None, network=httpx.MockTransport(nobody))

    await watch.poller.poll()
    await watch.close()

    assert watch.book.state.last_reason is Reason.AUTH
    assert f"{name} holds characters that no HTTP header can carry" in watch.book.state.last_error
    assert [record.exc_info for record in caplog.records] == [None]
    assert value not in caplog.text
