"""Request, Response, Simulator: the interface of a vendor's simulator, independent of servers and sockets."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from exporter.simulation.truth import Since, Truth
from exporter.simulation.world import World


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request as it came in: path and query still percent-encoded, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Returns the query's pairs, decoded, in their order; empty values kept."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def decoded_path(self) -> str:
        """Returns the path with its percent-encoding resolved."""
        return unquote(self.path)


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; the server adds Date and Content-Length."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an answer with a value as JSON."""
    return Response(status=status, body=msgspec.json.encode(value), headers=headers or {})


class Quirk(StrEnum):
    """Faults of a vendor's lists during a walk; a simulator honours each that its paging allows."""

    REPEAT_CURSOR = "repeat_cursor"  # page 2 names itself, or pages say the same again
    ENDLESS_PAGES = "endless_pages"  # there is always a further page
    DUPLICATE_ROWS = "duplicate_rows"  # the last row of a page stands on the next page too
    SHIFT_ROWS = "shift_rows"  # an alert leaves between pages: the first row of page 2 moves up to page 1, unseen


class Simulator(Protocol):
    """One vendor's API over one world.

    Every vendor's `simulator.py` has `TRAITS`, the traits of its world, and `simulator_for(world)`.
    """

    vendor: str
    world: World
    quirks: set[Quirk]
    page_size_limit: int | None
    """Caps every page, so that a test sees paging with few rows."""
    broken_details: set[int]
    """Numbers of incidents whose detail call fails for ever."""

    def endpoint_of(self, request: Request) -> str:
        """Returns the metric's label for this request: which of the vendor's calls it is; `other` for none of them."""

    def answer(self, request: Request) -> Response:
        """Answers as the vendor would at `world.now`, and verifies credentials as it would."""

    def error_in_envelope(self, endpoint: str) -> Response:
        """Returns a failure inside HTTP 200 as this vendor words it, or its usual 500 where it has no such thing."""

    def settings(self, base_url: str) -> dict[str, Any]:
        """Returns the source's section of a configuration file that polls this simulator with the right credentials."""

    def rotate(self) -> dict[str, str]:
        """Changes the accepted secret; the new values by the name of their `auth` setting."""

    def truth(self, since: Since) -> Truth:
        """Returns what the exporter's metrics must show, as far as this vendor's API shows them."""


Calls = Counter[tuple[str, str]]
