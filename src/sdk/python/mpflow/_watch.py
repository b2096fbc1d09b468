"""Passes on what is done while something that was thought to be quick takes long.

Values are gathered and coded together as long as they come quickly. When one of them suddenly does not, those before
it must not wait for it. Nobody can look after that in the thread that waits, so a thread watches: only while more
than one value is being gathered; otherwise it sleeps, and is not even started where nothing is ever gathered.
"""

from _thread import allocate_lock, start_new_thread
from time import monotonic, sleep

# What is older than this is passed on, and how often the thread looks.
LATE = 0.004
SHORT, LONG = 0.005, 0.05

# So many looks in vain, and the thread goes to sleep.
PATIENCE = 10


class Watch:
    """Calls `flush()`, which says whether it had anything to pass on, while a gathering lasts too long."""

    def __init__(self, flush):
        self._flush = flush
        self._since = 0.0
        self._parked = True
        self._wake = allocate_lock()
        self._started = False

    def begin(self):
        """A gathering of several values begins."""
        self._since = monotonic()
        if self._parked:
            self._unpark()

    def end(self):
        """It has ended, or waits for input with nothing left to pass on."""
        self._since = 0.0

    @property
    def is_on(self):
        """Whether a gathering lasts."""
        return self._since != 0.0

    def _unpark(self):
        self._parked = False
        if not self._started:
            self._started = True
            self._wake.acquire()
            start_new_thread(self._run, ())
            return
        try:
            self._wake.release()
        except RuntimeError:
            # The thread saw by itself that it is needed.
            pass

    def _run(self):
        pause, idle, seen = SHORT, 0, 0.0
        while True:
            sleep(pause)
            since = self._since
            if since != seen:
                pause, seen = SHORT, since
            if since:
                idle = 0
                if monotonic() - since >= LATE:
                    pause = SHORT if self._flush() else min(1.5 * pause, LONG)
                continue
            idle += 1
            if idle < PATIENCE:
                continue
            self._parked = True
            # A gathering that began before it could see that sign is seen here instead.
            if self._since == 0.0:
                self._wake.acquire()
            self._parked = False
            idle = 0
