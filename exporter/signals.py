"""Signals, heard by a thread of their own: they work whatever the event loop, the log or a callback is stuck in."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable

OK, FAILED = 0, 1
# Seconds from the first signal to the end of the process, whatever hangs.
LAST_SECONDS = 1.5

_STOPS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The handling of SIGTERM, SIGINT and SIGHUP. To be made in the main thread, before anything large is imported.

    The handler of the C library writes the number of a signal into a pipe, and a thread reads it: nothing depends on
    the main thread, where an exception raised by a handler is lost in a callback of an import or a weak reference.
    Until `hear`, a stop ends the process at once and without an error, since nothing is running, and a reload waits.
    From then on the first stop is passed on and the process ends in `LAST_SECONDS` at the latest; the second one ends
    it at once.
    """

    def __init__(self, leave: Callable[[int], None] = os._exit) -> None:
        self._leave = leave
        self._stop: Callable[[str], object] | None = None
        self._reload: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._missed = False
        self._ends_at: float | None = None
        self._heard, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        # The first process of a container hears no signal that it does not handle.
        for number in (*_STOPS, signal.SIGHUP):
            signal.signal(number, _nothing)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def hear(self, *, stop: Callable[[str], object], reload: Callable[[], object]) -> None:
        """Passes signals on from now on: `stop` is given the name of the first that stops. Called in another thread."""
        with self._lock:
            self._stop, self._reload = stop, reload
            missed = self._missed
        if missed:
            reload()

    def ignore(self) -> None:
        """Ignores them: the process is ending by itself, and the interpreter would restore their default actions."""
        for number in (*_STOPS, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _listen(self) -> None:
        while True:
            left = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
            if not select.select([self._heard], [], [], left)[0]:
                self._leave(OK)
                return
            for number in os.read(self._heard, 64):
                self._take(signal.Signals(number))

    def _take(self, number: signal.Signals) -> None:
        with self._lock:
            stop, reload = self._stop, self._reload
            self._missed = self._missed or number == signal.SIGHUP
        if number in _STOPS:
            if stop is None:
                self._leave(OK)
            elif self._ends_at is not None:
                self._leave(FAILED)
            else:
                self._ends_at = time.monotonic() + LAST_SECONDS
                stop(number.name)
        elif number == signal.SIGHUP and reload is not None and self._ends_at is None:
            reload()


def _nothing(*_: object) -> None:
    """Does nothing: that it is there makes the C library write into the pipe."""
