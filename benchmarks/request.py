"""One request to a vendor with all that belongs to it, against a bare `httpx.AsyncClient.get` of the same bytes."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from time import process_time
from typing import Any

import anyio
import httpx

from benchmarks.figures import ratio
from exporter.config import Metrics
from exporter.fleet import Watch
from exporter.vendorkit.network import network_for
from exporter.vendors import load_all

SOURCES = 200
ALERTS = 10
ROUNDS = 2
POLLS = 3
MODULE = "benchmarks.request"


class Recorder(httpx.AsyncBaseTransport):
    """Keeps the answers that come from the network beneath."""

    def __init__(self, network: httpx.AsyncBaseTransport, bodies: list[str]) -> None:
        self._network, self._bodies = network, bodies

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._network.handle_async_request(request)
        await response.aread()
        self._bodies.append(response.text)
        return httpx.Response(response.status_code, headers=response.headers, content=response.content, request=request)

    async def aclose(self) -> None:
        await self._network.aclose()


def _watches(settings: Mapping[str, Any]) -> list[Watch]:
    """The fleet: sources of all vendors in turn."""
    given = list(settings["sources"].values())
    watches = []
    for number in range(SOURCES):
        source = given[number % len(given)] | {"max_requests_per_second": 1000, "proxy": "none"}
        config = load_all()[source["vendor"]].config.model_validate(source)
        watches.append(Watch(f"source-{number}", config, Metrics(), published=lambda: None))
    return watches


async def _recorded(settings: Mapping[str, Any]) -> list[str]:
    """The answers of one poll of each vendor."""
    bodies: list[str] = []
    for source in settings["sources"].values():
        config = load_all()[source["vendor"]].config.model_validate(
            source | {"max_requests_per_second": 1000, "proxy": "none"}
        )
        network = Recorder(network_for(config), bodies)
        watch = Watch("recorded", config, Metrics(), published=lambda: None, network=network)
        await watch.poller.poll()
        assert watch.book.state.up, watch.book.state.last_error
        await watch.close()
    return bodies


async def _of_the_fleet(watches: list[Watch]) -> tuple[float, int]:
    """Seconds of processor time, and requests, of one poll of every source."""
    before = sum(sum(watch.book.state.requests.values()) for watch in watches)
    began = process_time()
    async with anyio.create_task_group() as tasks:
        for watch in watches:
            tasks.start_soon(watch.poller.poll)
    spent = process_time() - began
    assert all(watch.book.state.up for watch in watches)
    return spent, sum(sum(watch.book.state.requests.values()) for watch in watches) - before


async def _bare(url: str, answers: int, requests: int) -> float:
    """Seconds of processor time of so many bare requests, by as many clients as there are sources."""
    clients = [httpx.AsyncClient(trust_env=False, verify=False) for _ in range(SOURCES)]

    async def ask(client: httpx.AsyncClient, first: int) -> None:
        for number in range(first, requests, SOURCES):
            assert (await client.get(f"{url}/{number % answers}")).content

    began = process_time()
    async with anyio.create_task_group() as tasks:
        for first, client in enumerate(clients):
            tasks.start_soon(ask, client, first)
    spent = process_time() - began
    for client in clients:
        await client.aclose()
    return spent


async def _measured(settings: Mapping[str, Any], bodies: list[str], url: str) -> str:
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(ROUNDS):
        watches = _watches(settings)
        seconds, requests = 0.0, 0
        for _ in range(POLLS):
            spent, made = await _of_the_fleet(watches)
            seconds, requests = seconds + spent, requests + made
        ours.append(seconds / requests)
        bare.append(await _bare(url, len(bodies), requests) / requests)
        for watch in watches:
            await watch.close()
    return ratio(
        f"{SOURCES} sources, {min(ours) * 1000:.2f} ms a request, of a bare httpx.get's {min(bare) * 1000:.2f} ms",
        min(ours) / min(bare),
        at_most=1.0,
    )


def run() -> Iterator[str]:
    """One line: three polls of every source of a fleet, the first with all details."""
    command = [sys.executable, "-m"]
    stage = subprocess.Popen([*command, "benchmarks.stage", str(ALERTS), "10"], stdout=subprocess.PIPE, text=True)
    tape = subprocess.Popen([*command, MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert stage.stdout is not None
    assert tape.stdin is not None
    assert tape.stdout is not None
    try:
        settings = json.loads(stage.stdout.readline())
        bodies = anyio.run(_recorded, settings)
        print(json.dumps(bodies), file=tape.stdin, flush=True)
        yield anyio.run(_measured, settings, bodies, f"http://127.0.0.1:{tape.stdout.readline().strip()}")
    finally:
        for process in (stage, tape):
            process.terminate()
            process.wait()


class Tape(asyncio.Protocol):
    """Serves recorded answers by their number; costs nothing that is measured."""

    answers: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        number = int(data.split(b" ", 2)[1].removeprefix(b"/"))
        self._transport.write(self.answers[number])


async def _serve() -> None:
    head = "HTTP/1.1 200 OK\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nContent-Type: application/json\r\n"
    bodies = [body.encode() for body in json.loads(sys.stdin.readline())]
    Tape.answers = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    server = await asyncio.get_running_loop().create_server(Tape, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
