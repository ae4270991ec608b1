"""What an operator can say about one BlueKing Monitor."""

from datetime import timedelta
from enum import StrEnum
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from exporter.vendorkit.contract import SourceConfig
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Duration


class Api(StrEnum):
    """The two ways into a BlueKing site."""

    ESB = "esb"
    GATEWAY = "gateway"


class BluekingAuth(Credentials):
    """Who asks: an application, and for ESB a user it speaks for."""

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

    @model_validator(mode="after")
    def _complete(self) -> "BluekingAuth":
        if self.identities > 1:
            raise ValueError("username, token and access_token exclude each other: keep one of them")
        if self.access_token is None:
            missing = [name for name in ("app_code", "app_secret") if not getattr(self, name)]
            if missing:
                raise ValueError(f"{' and '.join(missing)} missing: give app_code and app_secret, or an access_token")
        return self

    @property
    def identities(self) -> int:
        """How many ways of naming the user are given."""
        return sum(map(bool, (self.username, self.token, self.access_token)))


class BluekingConfig(SourceConfig):
    """One BlueKing Monitor. `endpoint` ends before `/api/c/compapi/…` (esb) or `/api/bk-monitor/…` (gateway)."""

    vendor: Literal["blueking"] = "blueking"
    auth: BluekingAuth
    """Credentials."""
    bk_biz_ids: list[int]
    """Businesses whose alerts are read; `[-1]` means all the application may see."""
    api: Api = Api.ESB
    """`esb` (component API) or `gateway` (API gateway, which has no flow log)."""
    gateway_stage: str = Field(default="prod", pattern=r"^[A-Za-z0-9_-]+$")
    """Stage of the gateway `bk-monitor`."""
    timezone: ZoneInfo = ZoneInfo("Asia/Shanghai")
    """Zone of the server: the flow log writes its times without one."""
    lookback: Duration = timedelta(hours=1)
    """How far before the start the first poll looks for alerts that ended."""
    operations: bool = True
    """Read the flow log of alerts that changed: operations and convergences; ESB only, one call per alert."""
    notices: bool = True
    """Read notices and their failures from the handling records."""

    @field_validator("bk_biz_ids")
    @classmethod
    def _not_empty(cls, value: list[int]) -> list[int]:
        if not value:
            raise ValueError(
                "must name a business: an empty list means only alerts assigned to the calling user; "
                "write [-1] for all businesses"
            )
        return value

    @model_validator(mode="after")
    def _esb_needs_a_user(self) -> "BluekingConfig":
        if self.api is Api.ESB and not self.auth.identities:
            raise ValueError("auth: the ESB needs a user besides the application: give username, token or access_token")
        return self
