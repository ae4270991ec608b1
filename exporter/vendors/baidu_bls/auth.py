"""BCE v1: how requests to Baidu AI Cloud are signed ("Generate Authorization String" of its API reference)."""

import hashlib
import hmac
from collections.abc import Callable, Generator, Mapping
from datetime import datetime, timedelta
from urllib.parse import quote, unquote

import httpx

from exporter.vendors.baidu_bls.config import BaiduBlsAuth, BaiduBlsConfig
from exporter.vendors.baidu_bls.payload import EXPIRED, TIME_FORMAT, code_of

EXPIRES_AFTER_SECONDS = 1800
# A correction of the clock below this does not explain a refusal.
NOTABLE = timedelta(minutes=1)


class BceAuth(httpx.Auth):
    """Signs each request; one that was refused for its time is signed anew, once, if its answer corrected the clock."""

    requires_response_body = True

    def __init__(self, keys: BaiduBlsAuth, now: Callable[[], datetime]) -> None:
        self._keys = keys
        self._now = now

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yields the signed request, perhaps twice."""
        signed_at = self._now()
        self._sign(request, signed_at)
        response = yield request
        corrected = self._now()
        if abs(corrected - signed_at) > NOTABLE and (
            response.status_code == 401 or code_of(response.content) in EXPIRED
        ):
            self._sign(request, corrected)
            yield request

    def _sign(self, request: httpx.Request, at: datetime) -> None:
        signed = {"host": request.headers["host"], "x-bce-date": at.strftime(TIME_FORMAT)}
        if self._keys.session_token is not None:
            signed["x-bce-security-token"] = self._keys.session_token.for_header("session_token")
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        access_key = self._keys.access_key.for_header("access_key")
        prefix = f"bce-auth-v1/{access_key}/{signed['x-bce-date']}/{EXPIRES_AFTER_SECONDS}"
        seal = signature(self._keys.secret_key.read(), prefix, request.method, path, query, signed)
        request.headers.update(signed)
        request.headers["Authorization"] = f"{prefix}/{';'.join(sorted(signed))}/{seal}"


def signature(secret: str, prefix: str, method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Returns the signature of a request.

    Args:
        prefix: the Authorization header up to the expiry.
        path: as on the wire, percent-encoded.
        query: as on the wire, percent-encoded.
        headers: the headers to sign.
    """
    signing_key = _hmac(secret, prefix)
    uri = "/".join(_encoded(unquote(segment)) for segment in path.split("/"))
    text = "\n".join((method, uri, _canonical_query(query), _canonical_headers(headers)))
    return _hmac(signing_key, text)


def _canonical_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    # The manual sorts whole `name=value` texts, so that `text10=` stands before `text=`.
    return "&".join(
        sorted(
            f"{_encoded(unquote(name))}={_encoded(unquote(value))}"
            for name, _, value in pairs
            if unquote(name).lower() != "authorization"
        )
    )


def _canonical_headers(headers: Mapping[str, str]) -> str:
    return "\n".join(sorted(f"{_encoded(name.lower())}:{_encoded(value.strip())}" for name, value in headers.items()))


def _encoded(text: str) -> str:
    return quote(text, safe="-._~")


def _hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def auth_for(config: BaiduBlsConfig, now: Callable[[], datetime]) -> BceAuth:
    """Returns the signer of a source's requests."""
    return BceAuth(config.auth, now)
