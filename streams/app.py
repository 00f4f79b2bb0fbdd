"""One process: a Faust worker that supervises one service and answers /metrics, /healthz and /readyz."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Protocol

from streams.connect import kafka_options, ping_broker, until_available
from streams.errors import ChorusError
from streams.light import use_light_records
from streams.metrics import CONTENT_TYPE, Metrics
from streams.settings import Settings
from streams.suite import Suite

log = logging.getLogger("chorus")

#: Seconds that stopping may take.
STOP_WITHIN = 2.5


class WorkerService(Protocol):
    """A mode/Faust service that says when it does its work."""

    ready: bool

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def run_worker(
    role: str,
    suite: Suite,
    settings: Settings,
    make_service: Callable[[], Any],
    *,
    metrics: Metrics | None = None,
) -> int:
    """Run one service until SIGINT or SIGTERM; returns the exit code (0, or 1 when the service crashed).

    `make_service` returns a WorkerService; `metrics` is what /metrics shows, and what the service counts in.
    """
    set_up_logging(settings.log_level)
    quicken()
    try:
        return asyncio.run(_run(role, suite, settings, make_service, metrics or Metrics()))
    except KeyboardInterrupt:
        return 0
    except ChorusError as error:
        log.error("%s: %s", role, error)
        return 1


def quicken() -> None:
    """Set the process up for reading records as fast as it goes."""
    # Cyclic garbage is rare here and a scan of all that lives costs a tenth of the throughput.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    use_light_records()


async def _run(
    role: str, suite: Suite, settings: Settings, make_service: Callable[[], Any], metrics: Metrics
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    broker = asyncio.ensure_future(until_available(lambda: ping_broker(settings.kafka)))
    await asyncio.wait({stopped, broker}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        broker.cancel()
        return 0
    await broker
    service = make_service()
    # Faust makes one in the current folder otherwise. It is not used once the app has started, and must not
    # outlive a process that is killed.
    folder = TemporaryDirectory(prefix="chorus-")
    app = _make_app(role, suite, settings, service, metrics, folder.name)
    crashed = asyncio.create_task(_crashed(service, app))
    try:
        await app.start()
        folder.cleanup()
        await app.add_runtime_dependency(service)
        log.info("%s of suite %s answers on http://%s:%s", role, suite.name, *address(app))
        await asyncio.wait({stopped, crashed}, return_when=asyncio.FIRST_COMPLETED)
        reason = None if stop.is_set() else crashed.result()
    except OSError as error:
        reason = error
    if reason is not None:
        log.error("%s stops: %s", role, str(reason) or type(reason).__name__)
        log.debug("why", exc_info=reason)
    for task in (stopped, crashed):
        task.cancel()
    with suppress(asyncio.TimeoutError, Exception):
        await asyncio.wait_for(app.stop(), STOP_WITHIN)
    folder.cleanup()
    return 0 if reason is None else 1


async def _crashed(service: Any, app: Any) -> BaseException:
    waits = [asyncio.ensure_future(each._crashed.wait()) for each in (service, app)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    reason = service.crash_reason or app.crash_reason
    return reason if isinstance(reason, BaseException) else ChorusError("the service crashed")


def import_faust() -> ModuleType:
    """Import Faust, which reads sys.argv for options of its own at import time."""
    argv = sys.argv
    sys.argv = argv[:1]
    try:
        import faust

        return faust
    finally:
        sys.argv = argv


def _make_app(
    role: str, suite: Suite, settings: Settings, service: Any, metrics: Metrics, datadir: str
) -> Any:
    faust = import_faust()
    from faust.app.base import BootStrategy
    from faust.web import View

    class ControlPlane(BootStrategy):
        """The web server only: the data plane has Kafka clients of its own."""

        enable_kafka = False

    class App(faust.App):  # type: ignore[misc, name-defined]
        BootStrategy = ControlPlane
        mundane_level = "debug"
        producer_only = True

    options = kafka_options(settings.kafka)
    servers = [each.strip() for each in options["bootstrap_servers"].split(",")]
    app = App(
        f"chorus-{suite.name}-{role}",
        broker=[f"kafka://{server}" for server in servers],
        web_host=settings.web.host,
        web_bind=settings.web.host,
        web_port=settings.web.port or 1,  # Faust takes no 0; _on_port sets the real one
        web_in_thread=False,
        store="memory://",
        autodiscover=False,
        datadir=datadir,
    )
    _on_port(app, settings)

    @app.page("/metrics")
    class Exposition(View):
        async def get(self, request: Any) -> Any:
            return self.bytes(metrics.exposition(), content_type=CONTENT_TYPE.split(";")[0])

    @app.page("/healthz")
    class Health(View):
        async def get(self, request: Any) -> Any:
            alive = not service.crashed
            return self.text("alive\n" if alive else "crashed\n", status=200 if alive else 503)

    @app.page("/readyz")
    class Ready(View):
        async def get(self, request: Any) -> Any:
            ready = service.ready and not service.crashed
            return self.text("ready\n" if ready else "not ready\n", status=200 if ready else 503)

    return app


def _on_port(app: Any, settings: Settings) -> None:
    """Let the web server listen where the settings say, port 0 included."""
    from aiohttp.web import TCPSite

    web = app.web
    web._transport_handlers = {"tcp": lambda: TCPSite(web._runner, settings.web.host, settings.web.port)}


def address(app: Any) -> tuple[str, int]:
    """Host and port that the web server of a started app really has."""
    host, port = app.web._runner.addresses[0][:2]
    return host, port


class _OneLine(logging.Formatter):
    """A traceback is for debugging: elsewhere its last line says what there is to know."""

    def formatException(self, ei: Any) -> str:
        return f"  {ei[0].__name__}: {ei[1]}" if ei and ei[0] else ""


def set_up_logging(level: str) -> None:
    """Log to stderr. What Faust and aiokafka say while a server is away is said once by Chorus itself."""
    handler = logging.StreamHandler()
    style = logging.Formatter if level == "DEBUG" else _OneLine
    handler.setFormatter(style("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if level != "DEBUG":
        handler.addFilter(lambda record: not str(record.msg).startswith("Crashed reason="))
        logging.getLogger(__name__).setLevel(logging.ERROR)
        for name in ("faust", "mode", "asyncio", "aiohttp"):
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
