"""Start the simulator: in the foreground, or in a thread for tests and the demo."""

from __future__ import annotations

import errno
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from claude_pipeline.simulator.admin import change_limits, invoice_of, state_of
from claude_pipeline.simulator.api import Api
from claude_pipeline.simulator.app import create_app
from claude_pipeline.simulator.clock import Clock
from claude_pipeline.simulator.endpoint import TRANSPORT
from claude_pipeline.simulator.fault import Faults
from claude_pipeline.simulator.invoice import invoice_lines
from claude_pipeline.simulator.options import Options

API_KEY = "simulator"  # any key will do; each has a workspace of its own
_START_SECONDS = 10.0
_GRACE_SECONDS = 0.3  # for answers under way when the server stops


class Simulator:
    """A running simulator, as tests and the demo hold it."""

    def __init__(self, api: Api, base_url: str) -> None:
        self.api = api
        self.base_url = base_url
        self.api_key = API_KEY

    @property
    def clock(self) -> Clock:
        """`clock.advance(3600)`, `clock.speed = 3600`, `clock.pause()`, `clock.resume()`"""
        return self.api.clock

    @property
    def faults(self) -> Faults:
        """`faults.add(kind="lost_after", endpoint="create", count=1)`"""
        return self.api.faults

    def limit(self, share: float, *, told: bool = True) -> None:
        """As `POST /_simulator/limits`."""
        change_limits(self.api, {"share": share, "told": told})

    def invoice(self) -> dict[str, Any]:
        """As `GET /_simulator/invoice`."""
        return invoice_of(self.api)

    def invoice_lines(self) -> Iterator[bytes]:
        """As `GET /_simulator/invoice/lines`: NDJSON, some lines in each piece."""
        self.api.settle_all()
        return invoice_lines(self.api.store)

    def state(self) -> dict[str, Any]:
        """As `GET /_simulator/state`."""
        return state_of(self.api)

    def reset(self) -> None:
        self.api.reset()


@contextmanager
def running(options: Options | None = None) -> Iterator[Simulator]:
    """Serve from a thread of this process while the `with` block runs.

    >>> with running(Options(batch_seconds=(60, 60))) as simulator:
    ...     client = anthropic.Anthropic(base_url=simulator.base_url, api_key=simulator.api_key)
    """
    options = options or Options()
    api = Api(options)
    try:
        with _listening(options) as listener:
            server = _server(api)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True)
            thread.start()
            try:
                _wait_until_started(server, thread)
                yield Simulator(api, _base_url(listener))
            finally:
                server.should_exit = True
                thread.join()
    finally:
        api.close()


def serve(options: Options) -> None:
    """Serve until interrupted (Ctrl-C or SIGTERM), after a banner that says how to reach it."""
    # uvicorn raises the signal that stopped it once more; as an interrupt it ends in the `finally` here.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    api = Api(options)
    try:
        with _listening(options) as listener:
            said = banner(_base_url(listener), api)
            _server(api, lambda: print(said, flush=True)).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        api.close()


def banner(base_url: str, api: Api) -> str:
    """What a person needs to point a client here."""
    speed = api.clock.speed
    pace = "in real time" if speed == 1 else f"at {speed:g} simulated seconds a second"
    if api.clock.paused:
        pace = "its clock paused"
    return "\n".join(
        (
            f"A simulated Anthropic API, tier {api.limiter.tier.name}, {pace}. Nothing here costs money.",
            f"  export ANTHROPIC_BASE_URL={base_url}",
            f"  export ANTHROPIC_API_KEY={API_KEY}",
            f"  invoice: {base_url}/_simulator/invoice    stop: Ctrl-C",
        )
    )


class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # chosen at run time by uvicorn
    """uvicorn's HTTP protocol, which also hands the connection to the application, so faults can drop it."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app: ASGIApp = functools.partial(_with_transport, self.app, transport)


async def _with_transport(app: ASGIApp, transport: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope.setdefault("extensions", {})[TRANSPORT] = transport
    await app(scope, receive, send)


class _Server(uvicorn.Server):
    """Says so once it answers calls and heeds signals, and not before; and lets nobody wait when it stops."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)


def _server(api: Api, on_started: Callable[[], None] = lambda: None) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            create_app(api=api),
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_GRACE_SECONDS,  # type: ignore[arg-type]  # only ever waited for
        ),
        on_started,
        api.stop,
    )


@contextmanager
def _listening(options: Options) -> Iterator[socket.socket]:
    # Named as TCP, because asyncio sets TCP_NODELAY on such sockets only: else each answer waits 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as wrong:
            raise OSError(_not_listening(options, wrong)) from wrong
        listener.listen(512)
        yield listener


def _not_listening(options: Options, wrong: OSError) -> str:
    where = f"{options.host}, port {options.port}"
    if wrong.errno == errno.EADDRINUSE:
        return f"{where}: another program listens there; give another --port, or 0 for a free one"
    return f"{where}: cannot listen there ({wrong.strerror}); give another --host or --port"


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    waited = threading.Event()
    for _ in range(int(_START_SECONDS / 0.005)):
        if server.started:
            return
        if not thread.is_alive():
            break
        waited.wait(0.005)
    raise RuntimeError("the simulator did not start")
