"""Group commit: calls that arrive together share one transaction, hence one fsync.

The first caller leads: it may linger for others, takes what is waiting, has it applied and leaves everyone their
answer. Those that arrive meanwhile wait; when the leader is done, the first of them leads the next group. Everyone
else is woken once, with the answer. There is no task of its own, so nothing to own, start or stop: a group lives in
its callers.

Cancellation never costs another caller its answer. A cancelled call whose group is not closed yet is withdrawn and
takes no effect, as is a leader's whose transaction has not begun; any other waits for the transaction's end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
import anyio.lowlevel

from controller.core.errors import StoreUnavailable
from controller.ports import Runner, Write

GROUP_WRITES_MAX: Final = 2_000
"""Writes at which a group is full, so that one transaction stays well below a second; a single call may be larger."""

Answer = Sequence[bool] | Exception
Apply = Callable[[Sequence[Sequence[Write]]], Sequence[Answer]]
"""Blocking: applies several calls' writes in one transaction; an answer or an error for each. Never raises."""


@dataclass(slots=True, eq=False)
class _Call:
    """One caller's writes on their way through a transaction."""

    writes: Sequence[Write]
    is_taken: bool = False
    answer: Answer | None = None
    woken: anyio.Event = field(default_factory=anyio.Event)
    """Set when it is answered, or is to lead."""


class GroupCommit:
    """Coalesces concurrent commits."""

    def __init__(self, apply: Apply, *, runner: Runner, linger: Callable[[], Awaitable[None]] | None = None) -> None:
        self._apply = apply
        self._runner = runner
        self._linger = linger
        self._waiting: deque[_Call] = deque()
        self._leader: _Call | None = None

    async def commit(self, writes: Sequence[Write]) -> Sequence[bool]:
        call = _Call(tuple(writes))
        if not call.writes:
            return ()
        self._waiting.append(call)
        if self._leader is None:
            self._leader = call
        try:
            if self._leader is not call:
                await call.woken.wait()
            if call.answer is None:
                await self._lead()
        finally:
            await self._leave(call)
        if isinstance(call.answer, Exception):
            raise call.answer
        assert call.answer is not None
        return call.answer

    async def _lead(self) -> None:
        await (anyio.lowlevel.checkpoint() if self._linger is None else self._linger())
        group = self._take()
        has_begun = False

        def apply() -> None:
            nonlocal has_begun
            has_begun = True
            for call, answer in zip(group, self._apply([call.writes for call in group]), strict=True):
                call.answer = answer

        try:
            await self._runner.run(apply)
        finally:
            if has_begun:
                _settle(group)
            else:
                self._put_back(group)

    def _take(self) -> list[_Call]:
        group: list[_Call] = []
        count = 0
        while self._waiting and (not group or count + len(self._waiting[0].writes) <= GROUP_WRITES_MAX):
            call = self._waiting.popleft()
            call.is_taken = True
            count += len(call.writes)
            group.append(call)
        return group

    def _put_back(self, group: list[_Call]) -> None:
        """The leader was cancelled before the transaction began: the others' next turn takes them again."""
        for call in group:
            call.is_taken = False
        self._waiting.extendleft(reversed(group))

    async def _leave(self, call: _Call) -> None:
        if call.answer is None and call.is_taken and self._leader is not call:
            with anyio.CancelScope(shield=True):
                await call.woken.wait()  # answered; or put back by a cancelled leader, and now to lead itself
        if call.answer is None and not call.is_taken:
            self._waiting.remove(call)
        if self._leader is call:
            self._leader = self._waiting[0] if self._waiting else None
            if self._leader is not None:
                self._leader.woken.set()


def _settle(group: list[_Call]) -> None:
    for call in group:
        if call.answer is None:
            call.answer = StoreUnavailable("the commit was broken off by an error in the store")
        call.woken.set()
