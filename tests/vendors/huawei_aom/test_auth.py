"""Signatures against the vectors of Huawei's signing guide and its SDK; tokens."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from exporter.errors import FetchError, Reason, SourceRefused
from exporter.vendors.huawei_aom import VENDOR
from exporter.vendors.huawei_aom.auth import authorization_for, canonical_request
from tests.vendors.huawei_aom.reading import BASIC, PROJECT_ID

DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = "https://aom.cn-north-4.myhuaweicloud.com"
URL = f"{HOST}/v2/{PROJECT_ID}/events"
JSON = {"Content-Type": "application/json"}
PASSWORD = {
    "method": "password",
    "iam_endpoint": "https://iam.test",
    "domain": "ACCOUNT",
    "username": "IAM_USER",
    "password": "SECRET",
    "project_name": "cn-north-4",
}


def auth_with(now: Callable[[], datetime] = lambda: DATE, /, **auth: Any) -> httpx.Auth:
    config = VENDOR.config.model_validate({**BASIC, "auth": auth or BASIC["auth"]})
    return VENDOR.auth(config, now)


def digest_of(request: httpx.Request) -> str:
    signed = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    canonical = canonical_request(request, {name: request.headers[name] for name in signed})
    return hashlib.sha256(canonical.encode()).hexdigest()


def test_the_example_of_the_signing_guide() -> None:
    request = httpx.Request(
        "GET",
        "https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs"
        "?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
        headers={"X-Sdk-Date": "20191115T033655Z", "content-type": "application/json"},
    )

    request.headers["Authorization"] = authorization_for(
        request, access_key="QTWAOYTTINDUT2QVKYUC", secret_key="MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
    )

    assert digest_of(request) == "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"
    assert request.headers["Authorization"] == (
        "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders=content-type;host;x-sdk-date, "
        "Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe"
    )


def test_a_get_is_signed_as_the_sdk_signs_it() -> None:
    url = f"{HOST}/v2/{PROJECT_ID}/alarm-notified-histories?event_sn=1283514476372426755"

    request = next(auth_with().auth_flow(httpx.Request("GET", url, headers=JSON)))

    assert digest_of(request) == "c1eba66d56533f1048327b50628701f9837379a11c469446e2ceceb56e514595"
    assert request.headers["Authorization"] == (
        "SDK-HMAC-SHA256 Access=EXAMPLEAK0123456789A, SignedHeaders=content-type;host;x-project-id;x-sdk-date, "
        "Signature=941d526dea0956af16af12e1df8df3b4cc740235585601bc856b5ce6819966f4"
    )


@pytest.mark.parametrize("query", ["type=active_alert&limit=1000&marker=0", "limit=1000&marker=0&type=active_alert"])
def test_a_post_is_signed_with_its_body_and_enterprise_project_in_any_order_of_the_query(query: str) -> None:
    body = (
        b'{"time_range":"-1.-1.30","metadata_relation":[{"key":"event_type","relation":"AND","value":["alarm"]}],'
        b'"sort":{"order_by":["starts_at"],"order":"desc"}}'
    )
    headers = {**JSON, "Enterprise-Project-Id": "all_granted_eps", "User-Agent": "not signed"}

    request = next(auth_with().auth_flow(httpx.Request("POST", f"{URL}?{query}", headers=headers, content=body)))

    assert hashlib.sha256(request.content).hexdigest().startswith("6f08001b0e20221ded4fe574e2bad510")
    assert digest_of(request) == "b10f015a3891cb818fc0edc06cb9a1a87a395dcaf33f2c90a0b44382ec221bfd"
    assert request.headers["X-Project-Id"] == PROJECT_ID
    assert request.headers["Authorization"] == (
        "SDK-HMAC-SHA256 Access=EXAMPLEAK0123456789A, "
        "SignedHeaders=content-type;enterprise-project-id;host;x-project-id;x-sdk-date, "
        "Signature=0c1a083ec4dff1984ab60ffa38ae2bbab87a01eefbd54880d778a426f3ab44ae"
    )


def test_odd_characters_and_a_port_are_signed_as_the_sdk_signs_them() -> None:
    request = httpx.Request(
        "GET",
        f"http://127.0.0.1:18080/v2/{PROJECT_ID}/events/notification/template/a%20b~c_d?q=x%2Fy%20z&q=%E4%B8%AD&empty=",
        headers={**JSON, "X-Security-Token": "temp-token", "X_Ignored": "1", "X-Sdk-Date": "20260102T030405Z"},
    )

    request.headers["Authorization"] = authorization_for(
        request, access_key="EXAMPLEAK0123456789A", secret_key="ExampleSecretKey0123456789abcdefABCDEF00"
    )

    assert digest_of(request) == "997d06162461d58c8af786633621f736458becbe09ba4587e678f8159608f5d0"
    assert request.headers["Authorization"] == (
        "SDK-HMAC-SHA256 Access=EXAMPLEAK0123456789A, SignedHeaders=content-type;host;x-sdk-date;x-security-token, "
        "Signature=80a291286ae815d5a37900b7d531bae64d3dd4ef58af0f2bdd238f0d89afab4d"
    )


def test_a_temporary_key_sends_and_signs_its_security_token() -> None:
    auth = auth_with(access_key="AK", secret_key="SK", security_token="temp-token")

    request = next(auth.auth_flow(httpx.Request("GET", URL)))

    assert request.headers["X-Security-Token"] == "temp-token"
    assert "x-sdk-date;x-security-token," in request.headers["Authorization"]


def test_a_rotated_key_file_signs_the_next_request(tmp_path: Path) -> None:
    file = tmp_path / "sk"
    file.write_text("first\n")
    auth = auth_with(access_key="AK", secret_key_file=str(file))
    before = next(auth.auth_flow(httpx.Request("GET", URL))).headers["Authorization"]

    file.write_text("second\n")

    assert next(auth.auth_flow(httpx.Request("GET", URL))).headers["Authorization"] != before


def test_a_refused_signature_is_never_repeated_while_the_clock_is_right() -> None:
    flow = auth_with().auth_flow(httpx.Request("GET", URL))
    next(flow)

    with pytest.raises(StopIteration):
        flow.send(httpx.Response(401))


def test_a_refused_signature_is_repeated_once_when_the_answer_corrected_the_clock() -> None:
    times = iter([DATE, DATE + timedelta(hours=1), DATE + timedelta(hours=1)])
    flow = auth_with(lambda: next(times)).auth_flow(httpx.Request("GET", URL))
    dates = [next(flow).headers["X-Sdk-Date"]]

    dates.append(flow.send(httpx.Response(401)).headers["X-Sdk-Date"])

    with pytest.raises(StopIteration):
        flow.send(httpx.Response(401))
    assert dates == ["20260102T030405Z", "20260102T040405Z"]


def test_a_given_token_is_sent_as_it_stands_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    auth = auth_with(method="token", token_file=str(file))

    file.write_text("second\n")

    assert next(auth.auth_flow(httpx.Request("GET", URL))).headers["X-Auth-Token"] == "second"


@pytest.mark.parametrize(
    "auth", [{"method": "token", "token": "se\ncret"}, {"access_key": "A", "secret_key": "S", "security_token": "sé"}]
)
def test_a_secret_that_no_header_can_carry_is_refused_without_being_shown(auth: dict[str, str]) -> None:
    with pytest.raises(SourceRefused, match="no HTTP header can carry") as caught:
        next(auth_with(**auth).auth_flow(httpx.Request("GET", URL)))

    assert "se" not in str(caught.value).replace("security_token", "")


class Iam(httpx.AsyncBaseTransport):
    """IAM and AOM: tokens `token-1`, `token-2`, …, of which AOM accepts those not dead."""

    def __init__(self, **answer: Any) -> None:
        self.answer = {"status_code": 201, "json": token_body(hours=24), **answer}
        self.log: list[str] = []
        self.bodies: list[bytes] = []
        self.dead: set[str] = set()
        self._given = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(1)
        if request.url.host == "iam.test":
            self._given += 1
            self.log.append(f"{request.extensions['endpoint']} {request.method} {request.url.raw_path.decode()}")
            self.bodies.append(request.content)
            return httpx.Response(**{"headers": {"X-Subject-Token": f"token-{self._given}"}, **self.answer})
        token = request.headers["X-Auth-Token"]
        self.log.append(token)
        return httpx.Response(401 if token in self.dead or "*" in self.dead else 200)


def token_body(hours: float) -> dict[str, Any]:
    issued = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    stamps = {"issued_at": issued, "expires_at": issued + timedelta(hours=hours)}
    return {"token": {name: f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for name, at in stamps.items()} | {"methods": ["password"]}}


CREATE = "create_token POST /v3/auth/tokens?nocatalog=true"


@pytest.mark.anyio
async def test_a_token_is_fetched_when_first_needed_and_then_kept() -> None:
    iam = Iam()
    async with httpx.AsyncClient(transport=iam, auth=auth_with(**PASSWORD)) as client:
        assert iam.log == []

        for _ in range(3):
            await client.post(URL, json={})

    assert iam.log == [CREATE, "token-1", "token-1", "token-1"]
    assert iam.bodies == [
        b'{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"IAM_USER","password":"SECRET",'
        b'"domain":{"name":"ACCOUNT"}}}},"scope":{"project":{"name":"cn-north-4"}}}}'
    ]


@pytest.mark.anyio
async def test_requests_under_way_at_once_share_one_token() -> None:
    iam = Iam()
    async with (
        httpx.AsyncClient(transport=iam, auth=auth_with(**PASSWORD)) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(4):
            tasks.start_soon(client.get, URL)

    assert iam.log == [CREATE, *["token-1"] * 4]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "hours"), [(token_body(hours=10), 8), (b"{}", 19.2), ({"token": {"issued_at": "x"}}, 19.2)]
)
async def test_a_token_is_renewed_at_80_percent_of_its_life_which_is_24_hours_unless_told(
    body: Any, hours: float
) -> None:
    now = DATE
    iam = Iam(**({"content": body, "json": None} if isinstance(body, bytes) else {"json": body}))
    async with httpx.AsyncClient(transport=iam, auth=auth_with(lambda: now, **PASSWORD)) as client:
        await client.get(URL)
        now = DATE + timedelta(hours=hours, seconds=-1)
        await client.get(URL)
        now = DATE + timedelta(hours=hours)
        await client.get(URL)

    assert iam.log == [CREATE, "token-1", "token-1", CREATE, "token-2"]


@pytest.mark.anyio
async def test_a_token_that_died_early_is_renewed_once() -> None:
    iam = Iam()
    async with httpx.AsyncClient(transport=iam, auth=auth_with(**PASSWORD)) as client:
        await client.get(URL)
        iam.dead = {"token-1"}
        revived = await client.get(URL)
        iam.dead = {"*"}
        refused = await client.get(URL)

    assert (revived.status_code, refused.status_code) == (200, 401)
    assert iam.log == [CREATE, "token-1", "token-1", CREATE, "token-2", "token-2", CREATE, "token-3"]


@pytest.mark.anyio
async def test_a_token_refused_at_once_is_not_renewed() -> None:
    iam = Iam()
    iam.dead = {"*"}
    async with httpx.AsyncClient(transport=iam, auth=auth_with(**PASSWORD)) as client:
        assert (await client.get(URL)).status_code == 401

    assert iam.log == [CREATE, "token-1"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        ({"status_code": 401, "json": {"error": {"code": 401, "message": "SECRET"}}}, Reason.AUTH, "IAM: HTTP 401"),
        ({"status_code": 429, "json": None}, Reason.RATE_LIMITED, "IAM: HTTP 429"),
        ({"status_code": 503, "json": None}, Reason.SERVER_ERROR, "IAM: HTTP 503"),
        ({"status_code": 404, "json": None}, Reason.NOT_FOUND, "IAM: HTTP 404"),
        ({"headers": {}}, Reason.BAD_RESPONSE, "without a usable header X-Subject-Token"),
    ],
)
async def test_a_failure_of_iam_is_the_failure_of_the_call(answer: dict[str, Any], reason: Reason, says: str) -> None:
    async with httpx.AsyncClient(transport=Iam(**answer), auth=auth_with(**PASSWORD)) as client:
        with pytest.raises(FetchError, match=says) as caught:
            await client.get(URL)

    assert caught.value.reason is reason
    assert "SECRET" not in str(caught.value)
