"""The header X-Bkapi-Authorization, which both routes accept (API Gateway manual, Authorization)."""

import json
from collections.abc import Callable, Generator
from datetime import datetime

import httpx

from exporter.vendors.blueking.config import BluekingAuth, BluekingConfig


class BluekingAuthorization(httpx.Auth):
    """Puts the credentials, as they are now, into the header of every attempt."""

    def __init__(self, auth: BluekingAuth) -> None:
        self._auth = auth

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yields the request with its header; there is nothing to renew when it is refused."""
        # JSON on one line of ASCII. Never as parameters: a query stands in access logs, and the gateway ignores it.
        request.headers["X-Bkapi-Authorization"] = json.dumps(self._credentials())
        yield request

    def _credentials(self) -> dict[str, str]:
        auth = self._auth
        if auth.access_token is not None:
            return {"access_token": auth.access_token.read()}
        credentials = {"bk_app_code": auth.app_code}
        if auth.app_secret is not None:
            credentials["bk_app_secret"] = auth.app_secret.read()
        if auth.token is not None:
            credentials["bk_token"] = auth.token.read()
        if auth.username:
            credentials["bk_username"] = auth.username
        return credentials


def auth_for(config: BluekingConfig, _now: Callable[[], datetime]) -> BluekingAuthorization:
    """Returns the authorization of a source's requests."""
    return BluekingAuthorization(config.auth)
