"""Settings of one Key-ASTROM environment."""

import re
from datetime import timedelta
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from exporter.vendorkit.contract import SourceConfig
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Duration


class KeyAstromAuth(Credentials):
    """Credentials."""

    api_token: Secret
    """Access token with the scope `events.read`, and `problems.read` where `problems` is on."""


class KeyAstromConfig(SourceConfig):
    """One environment, or the part of it that the selectors name."""

    vendor: Literal["key_astrom"]
    """Key-ASTROM."""
    auth: KeyAstromAuth
    """Credentials."""
    lookback: Duration = timedelta(hours=6)
    """Length of the first window, before the start."""
    open_window: Duration = timedelta(days=30)
    """Age up to which open events are looked for, in every poll."""
    event_selector: str = ""
    """Only events that match, in the words of the API's `eventSelector`; without a `status` criterion."""
    entity_selector: str = Field(default="", max_length=10_000)
    """Only events, and problems, of entities that match, in the words of the API's `entitySelector`."""
    problems: bool = False
    """Read problems too, to count the events that joined one after its first."""

    HOW: ClassVar[frozenset[str]] = SourceConfig.HOW | {"auth", "problems"}

    @field_validator("endpoint")
    @classmethod
    def _ends_before_the_path(cls, value: str) -> str:
        if re.search(r"/api/v2(/(events|eventTypes|problems))?$", value):
            raise ValueError(
                "must end before /api/v2: https://HOST/e/ENVIRONMENT-ID, or https://HOST where there is none"
            )
        return value

    @field_validator("open_window")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than 0 s")
        return value

    @field_validator("event_selector")
    @classmethod
    def _no_status(cls, value: str) -> str:
        if re.search(r'(?<![\w."])status\s*\(', value):
            raise ValueError("must not have a status criterion: open and closed events are both read; remove it")
        return value.strip().rstrip(",")

    @field_validator("entity_selector")
    @classmethod
    def _names_entities(cls, value: str) -> str:
        if value.strip() and not re.search(r"\b(type|entityId)\s*\(", value):
            raise ValueError('needs type("…") or entityId("…"): the API accepts no other criterion alone; add one')
        return value.strip()
