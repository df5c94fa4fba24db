"""Python's garbage collector, out of the way of start-up and of requests.

`app.main` and `app.cli.main` import this before the rest: what imports make stays, and to search it
for garbage again and again while it grows would take a seventh of start-up.
"""

import ctypes
import gc
from contextlib import suppress

# When Python looks for garbage among new objects, and how often among older ones. At five times as
# many new ones everybody waits for 9 to 30 ms wherever tens of thousands of rows are read.
YOUNG_OBJECTS, YOUNG_TIMES, OLDER_TIMES = 10_000, 5, 100

gc.disable()


def spare_what_is_imported() -> None:
    """Collect again from here on, but never look at what there is."""
    gc.freeze()
    gc.enable()


def spare_requests() -> None:
    """What start-up has made stays, too: to search it would halt requests for .1 s."""
    # Once a process: what a second application made, in tests, need not stay.
    if gc.get_threshold()[0] != YOUNG_OBJECTS:
        gc.collect()
        gc.freeze()
        _give_back()
        # Batches make many objects that live as long as they do; cycles are few.
        gc.set_threshold(YOUNG_OBJECTS, YOUNG_TIMES, OLDER_TIMES)


def _give_back() -> None:
    """Memory that is free, which glibc keeps for later: a checkpoint's files are read but once."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
