"""Where blocking functions run: a thread of their own in production, inline in a deterministic run.

Both implement ``ports.Runner``. The embedded store sends every statement through one runner, which is therefore
also what serialises its connection. What is handed over can't be called off: who can't wait for it is ``Unhurried``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")


class ThreadRunner:
    """Runs functions one after the other, in order of arrival, in one dedicated thread."""

    def __init__(self, name: str = "store") -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[[], T]) -> T:
        """The function's result; its exception is raised as it is.

        A cancellation before the call is handed over stops it; after that it waits for the function's end, whether
        it comes from a cancel scope or from ``Task.cancel``. Abandoning the call instead would let the next one
        start in the middle of a transaction.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        future = asyncio.get_running_loop().run_in_executor(self._executor, function)
        interruption: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not future.done():
                try:
                    await asyncio.wait((future,))
                except asyncio.CancelledError as error:  # Task.cancel() passes through the shield
                    interruption = error
        if interruption is not None:
            future.exception()  # retrieved: the caller is told of its cancellation only
            raise interruption
        return future.result()

    def close(self) -> None:
        """Let the thread end once its last function has."""
        self._executor.shutdown(wait=False)


class InlineRunner:
    """Runs functions on the event loop: for deterministic runs, where a blocking call costs no virtual time."""

    async def run(self, function: Callable[[], T]) -> T:
        """Lets other tasks run once, then the function; nothing can interrupt it."""
        await anyio.lowlevel.checkpoint()
        return function()


class Unhurried:
    """One call at a time, which may take longer than those who asked for it can wait."""

    def __init__(self, call: Callable[[], Awaitable[None]]) -> None:
        self._call = call
        self._calling: asyncio.Task[None] | None = None

    async def within(self, seconds: float | None) -> None:
        """Return when the call is over, or after so many seconds; it then goes on, and the next who asks waits for its
        end. Raises what it raised."""
        if self._calling is None or self._calling.done():
            self._calling = asyncio.create_task(self._called(), name="unhurried call")
        calling = self._calling
        await asyncio.wait((calling,), timeout=seconds)
        if calling.done() and not calling.cancelled():
            calling.result()

    async def close(self) -> None:
        """Wait for the end of a call that is under way, as far as it can't be called off."""
        if self._calling is not None:
            self._calling.cancel()
            await asyncio.gather(self._calling, return_exceptions=True)

    async def _called(self) -> None:
        await self._call()
