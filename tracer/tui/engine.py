"""Where snapshots come from, and the thread in which they are made."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tracer.errors import TwtraceError
from tracer.model import Snapshot, Start

if TYPE_CHECKING:  # a live run needs no reader of traces before it begins
    from tracer.replay import Playhead

Publish = Callable[[Snapshot], None]


class Engine(Protocol):
    """A live trace, a replay, a test. All but run() may be called from any thread."""

    interval_s: float
    """Between two snapshots."""

    def run(self, publish: Publish) -> None:
        """Publish snapshots, as often as wanted, until `stop()` or the engine's own end.

        Called once, in a thread of its own. `publish` never fails.
        """

    def stop(self) -> None:
        """Have `run()` return soon; perhaps more than once, perhaps before or after `run()`."""

    def group_by(self, by: str) -> None:
        """Have the next snapshots' rows stand for that, one of GROUPINGS; one comes soon."""

    def reset(self) -> None:
        """Count anew."""

    @property
    def playhead(self) -> Playhead | None:
        """Where a replay is; None: time is not under control."""


class Recording(Protocol):
    """A trace that is being written."""

    @property
    def path(self) -> str:
        """Where it goes."""

    @property
    def size(self) -> int:
        """Bytes so far."""


@runtime_checkable
class Recorder(Protocol):
    """What an engine has that can record on the way."""

    @property
    def recording(self) -> Recording | None:
        """The trace that is written, if one is."""

    @property
    def recording_failed(self) -> TwtraceError | None:
        """What ended the last one too early, if anything did."""

    def start_recording(self, path: str) -> None:
        """Begin a trace. Raises TwtraceError if there can be no such file."""

    def stop_recording(self) -> None:
        """End it."""


@runtime_checkable
class Replay(Protocol):
    """What an engine has that shows a trace."""

    @property
    def start(self) -> Start:
        """What it was taken on, and how."""


class EngineThread(Thread):
    """Runs an engine, perhaps before there is a screen, and keeps what it failed with."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="engine", daemon=True)
        self._engine = engine
        self._lock = Lock()
        self._publish: Publish | None = None
        self._ended: Callable[[], None] | None = None
        self._newest: Snapshot | None = None
        self._is_over = False
        self.failure: BaseException | None = None

    def tell(self, publish: Publish, ended: Callable[[], None]) -> None:
        """Tell those, from now on, of snapshots and of the end; what there is already, at once."""
        with self._lock:
            self._publish, self._ended = publish, ended
            if self._newest:
                publish(self._newest)
            if self._is_over:
                ended()

    def run(self) -> None:
        """Run the engine to its end; then say so."""
        try:
            self._engine.run(self._take)
        except BaseException as failure:  # noqa: BLE001  finish() raises it, where someone can act on it
            self.failure = failure
        finally:
            with self._lock:
                self._is_over = True
                if self._ended:
                    self._ended()

    def _take(self, snapshot: Snapshot) -> None:
        with self._lock:
            if self._publish:
                self._publish(snapshot)
            else:
                self._newest = snapshot

    def stop(self) -> None:
        """Have the engine end soon."""
        self._engine.stop()

    def finish(self) -> None:
        """End the engine, wait for that, and raise what it failed with."""
        self.stop()
        if self.is_alive():
            self.join()
        if self.failure:
            raise self.failure
