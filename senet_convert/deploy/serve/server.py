"""Running it: listen, load, say that it is ready, and stop without losing a request.

It listens before the models are loaded: liveness is 200 from then on, readiness 503 until they are loaded and warm.
SIGTERM: readiness is 503 at once, requests are still taken for `linger` seconds, so that whoever sends them sees it;
then nothing more is accepted and what was accepted is answered, for up to `grace` seconds. SIGINT (Ctrl-C) does not
linger. A second signal ends the process at once. Whatever hangs, a run, a thread, the event loop, the process is gone
when these times are over: a watchdog sees to it. SIGHUP looks for replaced models and reads certificate and API keys
again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import ssl
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import ConvertError
from .access.keys import Keys
from .app import build
from .http import sockets
from .http.listener import Listener
from .observe import logs
from .settings.settings import Settings
from .state import ServerState

if TYPE_CHECKING:
    from .v2.grpc.server import GrpcServer

_FILES = 256  # open files besides connections
_ENOUGH = 65536  # open files: with more, programs that look at each of them become slow
_QUICK = 0.5  # seconds that the first connections wait for models: those of quick ones are never told to come again
_LAST = 1.0  # seconds for the refusals of what was not answered within the grace to go out
_MARGIN = 1.0  # seconds beyond all these after which the watchdog ends the process
_SAID = 0.5  # seconds for the last lines of the log to be written
CUT_OFF = 1  # exit code where requests were not answered, or a run did not end
_log = logging.getLogger("senet_convert.serve")


class Server:
    """A server from its start to its end; of one use."""

    def __init__(self, settings: Settings) -> None:
        """Takes the port. Raises ConvertError: it is taken, TLS or API keys cannot be read, two models of one name."""
        self.settings = settings
        self.state = ServerState(settings)
        self.tls: ssl.SSLContext | None = None
        if settings.tls_cert and settings.tls_key:
            self.tls = sockets.certificate(settings.tls_cert, settings.tls_key)
        self.sockets = sockets.unix(settings.uds) if settings.uds else sockets.listen(settings.host, settings.port)
        self.port: int = 0 if settings.uds else self.sockets[0].getsockname()[1]
        self.grpc: GrpcServer | None = None
        self.abandoned = 0  # requests that were not answered
        self._threads = ThreadPoolExecutor(thread_name_prefix="work")  # asyncio's own would be waited for at the end
        self._told = asyncio.Event()
        self._signal = 0
        self._background: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until told to stop. Raises ConvertError: a model that cannot be loaded, gRPC that cannot start."""
        listener = Listener(build(self.state), self.settings, self.tls)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(self._threads)
        told = partial(self._on_signal, loop)
        before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
        loop.add_signal_handler(signal.SIGHUP, self._refresh)
        loading = asyncio.create_task(self.state.repository.start())
        await asyncio.wait((loading,), timeout=_QUICK)
        await listener.start(self.sockets)
        try:
            if self.settings.grpc_port is not None:
                await self._start_grpc(self.settings.grpc_port)
            if await self._loaded(loading):
                self._watch()
                await self._told.wait()
            await self._drain(listener)
        finally:
            await listener.close()
            for door in self.sockets:
                sockets.remove(door)
            for task in self._background:
                task.cancel()
            if self.state.traces is not None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.to_thread(self.state.traces.close), _LAST)
            self._threads.shutdown(wait=False, cancel_futures=True)
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def code(self) -> int:
        """The exit code that is honest: 0 where every request was answered and nothing was left computing."""
        return CUT_OFF if self.abandoned or self._stuck else 0

    def _on_signal(self, loop: asyncio.AbstractEventLoop, number: int, _: object) -> None:
        """Python calls it between two steps of its own, also while the event loop hangs in one of them."""
        if self._signal:
            _log.warning("told to stop again: ending at once")
            _leave(128 + number)
        self._signal = number
        left = self.settings.grace + _LAST + _MARGIN + (self.settings.linger if number == signal.SIGTERM else 0)
        watchdog = threading.Timer(left, _bite)
        watchdog.daemon = True
        watchdog.start()
        loop.call_soon_threadsafe(self.stop, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Begin to stop."""
        self.state.draining = True
        self._signal = number
        self._told.set()

    async def _start_grpc(self, port: int) -> None:
        from .v2 import grpc

        self.grpc = await grpc.start(self.state, self.settings.host, port)

    async def _loaded(self, loading: asyncio.Task[None]) -> bool:
        """Wait for the models; false when told to stop before they were there."""
        told = asyncio.create_task(self._told.wait())
        await asyncio.wait((loading, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not loading.done():
            _log.info("stopped while models were being loaded")
            _leave(0)  # a load cannot be interrupted, and may take minutes
        await loading
        names = ", ".join(sorted({running.served.name for running in self.state.repository.all()})) or "no model"
        places = [sockets.url(self.settings.host, self.port, "https" if self.tls else "http")]
        if self.settings.uds:
            places = [f"the Unix socket {self.settings.uds}"]
        if self.grpc is not None:
            places.append(sockets.url(self.settings.host, self.grpc.port, "grpcs" if self.tls else "grpc"))
        _log.info("serving %s on %s", names, " and ".join(places))
        return not self._told.is_set()

    def _watch(self) -> None:
        if self.settings.reload:
            self._spawn(self.state.repository.watch(self.settings.reload))

    def _refresh(self) -> None:
        self._spawn(self._read_again())

    async def _read_again(self) -> None:
        files = (self.settings.tls_cert, self.settings.tls_key)
        if self.tls is not None and files[0] and files[1]:
            try:
                sockets.certificate(files[0], files[1])  # looked at before the one in use is touched
                self.tls.load_cert_chain(files[0], files[1])
                if self.grpc is not None and self.grpc.certificate is not None:
                    self.grpc.certificate.renew()
                _log.info("the certificate was read again")
            except (ConvertError, ssl.SSLError, OSError) as fault:
                _log.error("the certificate stays as it was: %s", fault)
        try:
            self.state.keys = Keys.of(self.settings)
        except ConvertError as fault:
            _log.error("the API keys stay as they were: %s", fault)
        for _ in range(2):  # a change is believed when two looks see the same
            with suppress(ConvertError, OSError):
                await self.state.repository.refresh()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _drain(self, listener: Listener) -> None:
        """Answer what was accepted."""
        name = signal.Signals(self._signal).name
        _log.info("%s: not ready any more; finishing", name)
        if self._signal == signal.SIGTERM:
            await asyncio.sleep(self.settings.linger)
        ends = asyncio.get_running_loop().time() + self.settings.grace
        await listener.stop_accepting()
        async with asyncio.TaskGroup() as group:
            group.create_task(listener.finished(ends))
            if self.grpc is not None:
                group.create_task(self.grpc.stop(self.settings.grace))
        left = ends - asyncio.get_running_loop().time()
        await self.state.repository.close(max(0.0, left))
        await listener.finished(asyncio.get_running_loop().time() + _LAST)
        self.abandoned = listener.busy
        if self._stuck:
            _log.error("left computing, since they do not end: runs of %d instances", self._stuck)
        if self.abandoned:
            _log.error("%d requests were not answered within %g s", self.abandoned, self.settings.grace)
        else:
            _log.info("every request was answered; stopped")

    @property
    def _stuck(self) -> int:
        return sum(running.batcher.running for running in self.state.repository.all())


def run(settings: Settings) -> int:
    """Serve until told to stop, and give the exit code. Raises ConvertError when it cannot start."""
    logs.configure(settings.log_format, settings.log_level)
    server = Server(_allow_files(settings))
    with asyncio.Runner() as runner:
        runner.run(server.run())
        if server.code or _busy_threads():
            _leave(server.code)  # threads that still compute would hold the process
    logs.drain(_SAID)
    return server.code


def _busy_threads() -> bool:
    """Are there threads that do not come to an end now that they have nothing more to do?"""
    ends = time.monotonic() + _LAST
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(0.0, ends - time.monotonic()))
            if thread.is_alive():
                return True
    return False


def _allow_files(settings: Settings) -> Settings:
    """As many open files as the system lets us; of these some stay in reserve, for probes and models."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = now
    if now != resource.RLIM_INFINITY:
        wanted = max(now, _ENOUGH, 2 * settings.max_connections + _FILES)
        allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    if allowed == resource.RLIM_INFINITY:
        return settings
    room = allowed - min(_FILES, allowed // 2)
    if settings.grpc_port is not None:
        room //= 2  # the other half is gRPC's
    if room >= settings.max_connections:
        return settings
    _log.warning(
        "only %d files may be open (ulimit -n): %d connections are taken, not %d",
        allowed,
        room,
        settings.max_connections,
    )
    return replace(settings, max_connections=max(1, room))


def _bite() -> None:
    """The watchdog's: the time is over."""
    _log.critical("not stopped in time: ending at once")
    _leave(CUT_OFF)


def _leave(code: int) -> NoReturn:
    """End the process without waiting for its threads, or for whoever does not read what it says."""
    logs.drain(_SAID)
    os._exit(code)
