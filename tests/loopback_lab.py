"""A Lab for tests that block: it has a thread and a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

from resolverkit.testing import Authority, Lab


@contextmanager
def lab_in_thread(records, upstreams=("udp",)):
    """Give a Lab that answers as long as the block lasts."""
    lab = Lab(Authority(records), upstreams)
    started, ended = threading.Event(), threading.Event()

    async def live():
        async with lab:
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    try:
        assert started.wait(10)
        yield lab
    finally:
        ended.set()
        thread.join(10)
