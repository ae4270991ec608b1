"""Settings of one BlueKing Monitor."""

import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from exporter.vendorkit.contract import SourceConfig
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Duration


class Api(StrEnum):
    """The two ways into a BlueKing site."""

    ESB = "esb"
    GATEWAY = "gateway"


class BluekingAuth(Credentials):
    """Credentials of an application, and for ESB of a user it speaks for."""

    app_code: str = ""
    """Code of the application, from the BlueKing developer centre."""
    app_secret: Secret | None = None
    """Secret of the application."""
    username: str = ""
    """User the application speaks for; ESB accepts it from applications exempt from user authentication."""
    token: Secret | None = None
    """Login token (`bk_token`) of the user the application speaks for."""
    access_token: Secret | None = None
    """Token that stands for application and user; it is then sent alone."""

    def problems(self, api: Api) -> Iterator[InitErrorDetails]:
        """Yields credentials that are missing or exclude each other."""
        identities = sum(map(bool, (self.username, self.token, self.access_token)))
        if identities > 1:
            yield _problem("username, token and access_token exclude each other: keep one of them")
        if self.access_token is None:
            for name in ("app_code", "app_secret"):
                if not getattr(self, name):
                    yield InitErrorDetails(type="missing", loc=(name,), input=None, ctx={"model": type(self)})
        if api is Api.ESB and not identities:
            yield _problem("the ESB needs a user besides the application: give username, token or access_token")


def _problem(what: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("value_error", "{error}", {"error": what}), input=None)


class BluekingConfig(SourceConfig):
    """One BlueKing Monitor. `endpoint` ends before `/api/c/compapi/…` (esb) or `/api/bk-monitor/…` (gateway)."""

    vendor: Literal["blueking"] = "blueking"
    api: Api = Api.ESB
    """`esb` (component API) or `gateway` (API gateway, which has no flow log)."""
    auth: BluekingAuth
    """Credentials."""
    bk_biz_ids: list[int]
    """Businesses whose alerts are read; `[-1]` means all the application may see."""
    gateway_stage: str = Field(default="prod", pattern=r"^[A-Za-z0-9_-]+$")
    """Stage of the gateway `bk-monitor`."""
    timezone: ZoneInfo = ZoneInfo("Asia/Shanghai")
    """Zone of the server: the flow log writes its times without one."""
    lookback: Duration = timedelta(hours=1)
    """How far back each poll looks for alerts that ended, as data may come late; the first one counts from there."""
    operations: bool = True
    """Read the flow log of alerts that changed: operations and convergences; ESB only, one call per alert."""
    notices: bool = True
    """Read notices and their failures from the handling records."""
    detail_interval: Duration = timedelta(hours=6)
    """Time between two readings of an open alert's flow log that shows no sign of having grown."""

    HOW: ClassVar[frozenset[str]] = SourceConfig.HOW | {"detail_interval", "operations", "notices"}

    @field_validator("detail_interval")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than 0 s")
        return value

    @field_validator("bk_biz_ids")
    @classmethod
    def _not_empty(cls, value: list[int]) -> list[int]:
        if not value:
            raise ValueError(
                "must name a business: an empty list means only alerts assigned to the calling user; "
                "write [-1] for all businesses"
            )
        return value

    @field_validator("auth")
    @classmethod
    def _complete(cls, value: BluekingAuth, info: ValidationInfo) -> BluekingAuth:
        if problems := list(value.problems(info.data.get("api", Api.GATEWAY))):
            raise ValidationError.from_exception_data("auth", problems, hide_input=True)
        return value

    @field_validator("endpoint")
    @classmethod
    def _ends_before_the_path(cls, value: str) -> str:
        if re.search(r"/api/(c/compapi|bk-monitor)(/|$)", value):
            raise ValueError("must end before /api/c/compapi (esb) or /api/bk-monitor (gateway): https://HOST")
        return value
