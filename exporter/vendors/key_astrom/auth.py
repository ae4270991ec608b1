"""The Authorization header: an access token in the scheme `Api-Token`."""

from collections.abc import Callable, Generator
from datetime import datetime

import httpx

from exporter.vendorkit.secret import Secret
from exporter.vendors.key_astrom.config import KeyAstromConfig


class ApiToken(httpx.Auth):
    """Sends the token; what it looks like is not checked, since older ones have no fixed form and stay valid."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yields the request with its header; raises SourceRefused for a token that no header can carry."""
        request.headers["Authorization"] = f"Api-Token {self._token.for_header('api_token')}"
        yield request


def auth_for(config: KeyAstromConfig, _now: Callable[[], datetime]) -> httpx.Auth:
    """Returns the authorization of a source's requests."""
    return ApiToken(config.auth.api_token)
