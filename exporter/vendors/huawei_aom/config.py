"""Settings of one Huawei Cloud AOM project."""

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from exporter.vendorkit.contract import BaseUrl, SourceConfig
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Duration

# The console shows at most 31 days of alarms.
LONGEST_WINDOW = timedelta(days=31)


def _access_key(value: str) -> str:
    if not re.fullmatch(r"[!-+\--~]+", value):  # it stands in a header, in a list
        raise ValueError("must be the id of the access key alone, without spaces and commas")
    return value


class AkSk(Credentials):
    """Requests signed with an access key: what Huawei recommends for programs."""

    method: Literal["aksk"] = "aksk"
    """Sign each request with an access key."""
    access_key: Annotated[str, AfterValidator(_access_key)]
    """Access key id (AK)."""
    secret_key: Secret
    """Secret access key (SK)."""
    security_token: Secret | None = None
    """Security token, only with a temporary access key."""


class Token(Credentials):
    """A token that somebody else renews: it lives 24 hours at most."""

    method: Literal["token"]
    """Send a token that something else renews; give it as a file."""
    token: Secret
    """IAM token with the scope of the project."""


class Password(Credentials):
    """A token that is fetched, and renewed in time, with the password of an IAM user."""

    method: Literal["password"]
    """Fetch tokens from IAM."""
    iam_endpoint: BaseUrl
    """Base URL of IAM, which ends before `/v3/auth/tokens`: `https://iam.cn-north-4.myhuaweicloud.com`."""
    domain: str = Field(min_length=1)
    """Account (domain) the IAM user belongs to."""
    username: str = Field(min_length=1)
    """IAM user; a HUAWEI ID cannot get a token."""
    password: Secret
    """Password of the IAM user."""
    project_name: str = Field(min_length=1)
    """Project the token is for, which IAM names as the region: `cn-north-4`."""


_METHODS: dict[str, type[Credentials]] = {"aksk": AkSk, "token": Token, "password": Password}


def _with_method(auth: Any) -> Any:
    """Returns the section with its method named; refuses keys of another method and says which one that is."""
    if not isinstance(auth, dict):
        return auth
    method = auth.get("method", "aksk")
    keys = {
        name: set(kind.model_fields).union(f"{s}_file" for s in kind.secret_names()) for name, kind in _METHODS.items()
    }
    for other in keys if isinstance(method, str) and method in keys else ():
        if strangers := sorted(auth.keys() & (keys[other] - keys[method])):
            raise ValueError(
                f"{' and '.join(strangers)} only with `method: {other}`, and the method is {method}: "
                "change it, or remove the key"
            )
    return {**auth, "method": method}


def _id(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", value):
        raise ValueError("must be an id of letters, digits, - and _; copy it from the console")
    return value


Id = Annotated[str, AfterValidator(_id)]


class HuaweiAomConfig(SourceConfig):
    """One project, in one region. `endpoint` ends before `/v2/{project_id}/…`."""

    vendor: Literal["huawei_aom"] = "huawei_aom"
    """Huawei Cloud AOM."""
    auth: Annotated[AkSk | Token | Password, Field(discriminator="method"), BeforeValidator(_with_method)]
    """Credentials; `method` is `aksk` unless it says `token` or `password`."""
    project_id: Id
    """Project whose alarms are read, 32 hex digits; each region of an account has its own."""
    enterprise_project_id: Id | None = None
    """Only alarms of one enterprise project: its id, `"0"` for the default one, `all_granted_eps` for all granted."""
    open_window: Duration = timedelta(days=15)
    """Age up to which active alarms are looked for, at most 31 days: longer than any alarm stays open."""
    notices: bool = True
    """Read notices and their failures: one call per new alarm."""
    notice_recheck: Duration = timedelta(minutes=15)
    """How long after an alarm was first seen, and first seen ended, results of its notices are asked for: at once,
    after about 1, 2, 4 and 8 minutes, and when this time is over."""
    events: bool = True
    """Read events, which are no alarms and only counted."""

    HOW: ClassVar[frozenset[str]] = SourceConfig.HOW | {"auth", "notice_recheck", "notices", "events"}

    @field_validator("endpoint")
    @classmethod
    def _ends_before_the_path(cls, value: str) -> str:
        if re.search(r"/v2(/[0-9a-f]{32}(/.*)?)?$", value):
            raise ValueError("must end before /v2/{project_id}: https://aom.REGION.myhuaweicloud.com")
        return value

    @field_validator("open_window")
    @classmethod
    def _queryable(cls, value: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= value <= LONGEST_WINDOW:
            raise ValueError("must be between 1m and 31d, which is as far back as AOM can be asked")
        return value
