"""Authentication of requests: signed with an access key, or with a token, given or fetched from IAM."""

import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote

import anyio
import httpx
import msgspec

from exporter.errors import ItemRejected, SourceUnintelligible
from exporter.vendorkit.fields import Scalar, moment_from_text
from exporter.vendorkit.http import judged
from exporter.vendorkit.secret import Secret
from exporter.vendors.huawei_aom.client import judge
from exporter.vendors.huawei_aom.config import AkSk, HuaweiAomConfig, Password, Token

ALGORITHM = "SDK-HMAC-SHA256"

# Signing anew can only help where the clock was further off than this; the gateway forgives 15 minutes.
_STEP = timedelta(minutes=1)

# "Obtaining a User Token Through Password Authentication": a token is valid for 24 hours.
_LIFE = timedelta(hours=24)
USED_LIFE = 0.8


def auth_for(config: HuaweiAomConfig, now: Callable[[], datetime]) -> httpx.Auth:
    """Returns the signer of this source's requests; `now` is the vendor's clock."""
    match config.auth:
        case AkSk() as credentials:
            return AkSkAuth(credentials, config.project_id, now)
        case Token() as credentials:
            return TokenAuth(credentials)
        case Password() as credentials:
            return PasswordAuth(credentials, now)


class AkSkAuth(httpx.Auth):
    """Signs with an access key ("API request signing guide").

    A refused signature is repeated once, and only when the answer corrected the clock: more than five bad signatures
    in a row lock the key for five minutes.
    """

    requires_request_body = True

    def __init__(self, credentials: AkSk, project_id: str, now: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._project_id = project_id
        self._now = now

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Signs the request, and once more if the vendor's clock turned out to be another."""
        signed_at = self._sign(request)
        response = yield request
        if response.status_code == 401 and abs(self._now() - signed_at) > _STEP:
            self._sign(request)
            yield request

    def _sign(self, request: httpx.Request) -> datetime:
        now = self._now()
        headers = request.headers
        headers["X-Sdk-Date"] = now.strftime("%Y%m%dT%H%M%SZ")
        headers["X-Project-Id"] = self._project_id
        if self._credentials.security_token is not None:
            headers["X-Security-Token"] = self._credentials.security_token.for_header("security_token")
        headers["Authorization"] = authorization_for(
            request, access_key=self._credentials.access_key, secret_key=self._credentials.secret_key.read()
        )
        return now


_SIGNED = ("content-type", "enterprise-project-id", "host", "x-project-id", "x-sdk-date", "x-security-token")


def authorization_for(request: httpx.Request, *, access_key: str, secret_key: str) -> str:
    """Returns the header `Authorization` of a request that has its body and all headers that are to be signed."""
    signed = {name: request.headers[name] for name in _SIGNED if name in request.headers}
    canonical = canonical_request(request, signed)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{request.headers['X-Sdk-Date']}\n{digest}"
    signature = hmac.new(secret_key.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={';'.join(signed)}, Signature={signature}"


def canonical_request(request: httpx.Request, signed: Mapping[str, str]) -> str:
    """Returns the text to sign; its path ends in a slash, whether the one on the wire does or not."""
    path = quote(request.url.path, safe="/")
    pairs = sorted(parse_qsl(request.url.query.decode("ascii"), keep_blank_values=True))
    return "\n".join(
        (
            request.method,
            path if path.endswith("/") else f"{path}/",
            "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in pairs),
            *(f"{name}:{value.strip()}" for name, value in signed.items()),
            "",
            ";".join(signed),
            hashlib.sha256(request.content).hexdigest(),
        )
    )


class TokenAuth(httpx.Auth):
    """Sends a token that something else renews."""

    def __init__(self, credentials: Token) -> None:
        self._token = credentials.token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Adds the token as it is now."""
        request.headers["X-Auth-Token"] = self._token.for_header("token")
        yield request


class _TokenSpan(msgspec.Struct):
    issued_at: Scalar = None
    expires_at: Scalar = None


class _TokenBody(msgspec.Struct):
    token: _TokenSpan


class PasswordAuth(httpx.Auth):
    """Sends a token fetched from IAM when first needed, at 80 % of its life, and once when it is refused."""

    def __init__(self, credentials: Password, now: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._now = now
        self._fetching = anyio.Lock()
        self._token: Secret | None = None
        self._renew_at = now()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Adds the token; of requests under way at once, one fetches it."""
        for _ in range(2):
            fetched = False
            async with self._fetching:
                if self._token is None or self._now() >= self._renew_at:
                    response = yield self._token_request(request)
                    await response.aread()
                    self._token, self._renew_at = self._token_from(response)
                    fetched = True
                token = self._token
            request.headers["X-Auth-Token"] = token.read()
            response = yield request
            if response.status_code != 401 or fetched:
                return
            if self._token == token:
                self._token = None

    def _token_request(self, request: httpx.Request) -> httpx.Request:
        credentials = self._credentials
        user = {
            "name": credentials.username,
            "password": credentials.password.read(),
            "domain": {"name": credentials.domain},
        }
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": credentials.project_name}},
            }
        }
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return httpx.Request(
            "POST",
            f"{credentials.iam_endpoint}/v3/auth/tokens?nocatalog=true",
            headers={**headers, "User-Agent": request.headers.get("User-Agent", "")},
            content=msgspec.json.encode(body),
            extensions={**request.extensions, "endpoint": "create_token"},
        )

    def _token_from(self, response: httpx.Response) -> tuple[Secret, datetime]:
        """Returns the token, and when to fetch the next; its life is by IAM's own clock."""
        if not response.is_success:
            error = judged(response, judge)
            raise error.saying(f"IAM: {error}") from None
        token = response.headers.get("X-Subject-Token")
        if not (token and token.isascii() and token.isprintable()):
            raise SourceUnintelligible(f"IAM: HTTP {response.status_code} without a usable header X-Subject-Token")
        return Secret(token), self._now() + USED_LIFE * _life_from(response.content)


def _life_from(body: bytes) -> timedelta:
    """Returns the life of a token; by default what the manual promises."""
    try:
        span = msgspec.json.decode(body, type=_TokenBody).token
        issued, expires = moment_from_text(span.issued_at, "issued_at"), moment_from_text(span.expires_at, "expires_at")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ItemRejected):
        return _LIFE
    return expires - issued if issued and expires and expires > issued else _LIFE
