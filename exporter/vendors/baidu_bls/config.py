"""Settings of one region of one Baidu AI Cloud account."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar, Literal

from pydantic import field_validator

from exporter.vendorkit.contract import SourceConfig
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Duration


class BaiduBlsAuth(Credentials):
    """An access key pair of the account or of one of its IAM users."""

    access_key: Secret
    """Access key ID (AK)."""
    secret_key: Secret
    """Secret access key (SK)."""
    session_token: Secret | None = None
    """Session token of temporary keys (STS)."""


class BaiduBlsConfig(SourceConfig):
    """One region; each region has its own host and is a source of its own."""

    vendor: Literal["baidu_bls"]
    """Baidu AI Cloud, Log Service (BLS)."""
    auth: BaiduBlsAuth
    """Credentials."""
    open_window: Duration = timedelta(days=90)
    """Age up to which records are listed, by the start of their alarm; the API's own default is 30 days."""
    id_parameter: Literal["auto", "id", "alarmId"] = "auto"
    """Name of the query parameter of DescribeAlarmRecord: the manual says `id`, the vendor's SDKs send `alarmId`;
    `auto` begins with `id` and keeps what is answered."""
    detail_interval: Duration = timedelta(minutes=5)
    """Time between two readings of an open alarm's executions, and from its end to the last one."""

    HOW: ClassVar[frozenset[str]] = SourceConfig.HOW | {"detail_interval", "id_parameter"}
    WHO: ClassVar[frozenset[str]] = frozenset({"access_key"})

    @field_validator("endpoint")
    @classmethod
    def _ends_before_the_path(cls, value: str) -> str:
        if re.search(r"/v1(/alarm(/.*)?)?$", value):
            raise ValueError("must end before /v1/alarm: https://bls-log.REGION.baidubce.com")
        return value

    @field_validator("open_window", "detail_interval")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than 0 s")
        return value

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Yields keys whose value is legal and probably wrong, each with what is wrong and what to do."""
        yield from super().doubts()
        if re.match(r"https?://bls\.[^/]*\.?baidubce\.com", self.endpoint):
            yield "endpoint", "is not the host of the Log Service's API: write https://bls-log.REGION.baidubce.com"
