"""Jobs for which a call of DescribeJobs fails, kept apart from those that can be described.

AWS Batch refuses a call as a whole for one id that it does not take, and fails (HTTP 500) for one that it can't
describe. Such a call is made again in halves until that job stands alone; from then on it is asked for alone, in turns
with others like it, and comes into no chunk, which it would spoil.

An outage is none of these. While nothing at all is answered, no job is blamed, and dividing makes no more calls than
waiting would: each that failed is followed by the pause that its chunk would have had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio.abc
import structlog

from controller.core.errors import OutwardError, Refused
from controller.core.polling import Tracked
from controller.loop import Drain, Outage
from controller.ports import Clock

SUSPECTS_MAX: Final = 8
"""Jobs that fail alone before anything was answered, after which it is taken for an outage."""
ALONE_PAUSE_S: Final = 15.0
"""Each job that is asked for alone is, at most every so often."""
ALONE_SHARE: Final = 0.1
"""Of the describe budget, for all of them together; of the time of a single slot it is a half at most."""

Look = Callable[[Sequence[Tracked], anyio.abc.TaskGroup], Awaitable[OutwardError | float | None]]
"""One call. None: it was answered, and its jobs are back in the schedule or ended. Else they are in the caller's hands
still: the failure, or for how many seconds to wait before the call is made again, as it told nothing of its jobs."""


class Isolation:
    """Takes the chunks of which a call failed. Call ``failed``; the rest happens in tasks."""

    def __init__(
        self,
        *,
        look: Look,
        put_off: Callable[[Sequence[Tracked], OutwardError], None],
        pause_s: Callable[[OutwardError], float],
        rate_per_s: Callable[[], float],
        clock: Clock,
        drain: Drain,
    ) -> None:
        """``put_off`` gives jobs back into the schedule after a failure, ``pause_s`` is how long to wait after one, and
        ``rate_per_s`` the rate at which jobs are described."""
        self._look = look
        self._put_off = put_off
        self._pause_s = pause_s
        self._rate_per_s = rate_per_s
        self._clock = clock
        self._drain = drain
        self._is_dividing = False
        """One chunk at a time, so that others get their slots in between."""
        self._answers = 0
        """Calls that were answered, of any chunk: while it grows, what fails is no outage."""
        self._alone: deque[Tracked] = deque()
        """Those that are asked for alone, the next first."""
        self._is_asking = False
        self._failures = Outage(clock)
        self._log = structlog.get_logger(stage="track")

    def answered(self) -> None:
        """A call was, of whatever jobs."""
        self._answers += 1

    def failed(self, chunk: Sequence[Tracked], error: OutwardError, tasks: anyio.abc.TaskGroup) -> None:
        """The call for this chunk failed, as a whole. The chunk is this one's from now on."""
        if self._is_dividing:
            self._put_off(chunk, error)
            return
        self._is_dividing = True
        tasks.start_soon(self._divide, chunk, error, tasks, name="divide a failed chunk")

    async def _divide(self, chunk: Sequence[Tracked], error: OutwardError, tasks: anyio.abc.TaskGroup) -> None:
        answers, failed = self._answers, [(chunk, error)]
        if not isinstance(error, Refused):  # as a rule that is over with the next call
            await self._rest(error)
            failed = await self._ask([chunk], tasks)
        suspects: list[tuple[Sequence[Tracked], OutwardError]] = []
        while failed and not self._drain.is_requested:
            part, error = failed.pop()
            if len(part) > 1:
                middle = len(part) // 2
                failed += await self._ask([part[:middle], part[middle:]], tasks)
            else:
                suspects.append((part, error))
            if self._answers > answers:
                for (row,), its in suspects:
                    self._set_apart(row, its, tasks)
                suspects = []
            elif not failed or len(suspects) >= SUSPECTS_MAX:  # it is no matter of single jobs
                self._put_off([row for each, _ in (*failed, *suspects) for row in each], error)
                failed = []
        self._is_dividing = False

    async def _ask(
        self, parts: Sequence[Sequence[Tracked]], tasks: anyio.abc.TaskGroup
    ) -> list[tuple[Sequence[Tracked], OutwardError]]:
        """One more answer for each; those of which it is a failure."""
        failed = []
        for part in parts:
            if (error := await self._heard(part, tasks)) is not None:
                failed.append((part, error))
                await self._rest(error)
        return failed

    async def _heard(self, part: Sequence[Tracked], tasks: anyio.abc.TaskGroup) -> OutwardError | None:
        """Ask until something is told of these jobs. Given back for a throttle, say, the one at fault would spoil the
        next chunk, and have to be found again. A drain leaves them to the next process."""
        while isinstance(outcome := await self._look(part, tasks), float):
            if await self._drain.sleep(outcome):
                return None
        return outcome

    async def _rest(self, error: OutwardError) -> None:
        """What is no refusal of Batch's may be an outage, and is waited for as for one."""
        if not isinstance(error, Refused):
            await self._drain.sleep(self._pause_s(error))

    # --- those that are asked for alone ---------------------------------------------------------------

    def _set_apart(self, row: Tracked, error: OutwardError, tasks: anyio.abc.TaskGroup) -> None:
        self._alone.append(row)
        self._log.warning("DescribeJobs fails for a job", job_id=row.job_id, reason=str(error))
        if not self._is_asking:
            self._is_asking = True
            tasks.start_soon(self._ask_alone, tasks, name="describe jobs alone")

    async def _ask_alone(self, tasks: anyio.abc.TaskGroup) -> None:
        """In turns, until there is none of them left; a drain leaves them to the next process."""
        took_s = 0.0
        while self._alone and not await self._drain.sleep(self._alone_pause_s(took_s)):
            row = self._alone.popleft()
            began_at = self._clock.monotonic()
            if (error := await self._heard([row], tasks)) is not None:
                self._alone.append(row)
                if failures := self._failures.failed():
                    self._log.warning(
                        "DescribeJobs still fails for a job", job_id=row.job_id, reason=str(error), failures=failures
                    )
            took_s = self._clock.monotonic() - began_at
        self._is_asking = False

    def _alone_pause_s(self, took_s: float) -> float:
        return max(ALONE_PAUSE_S / len(self._alone), 1 / (ALONE_SHARE * self._rate_per_s()), took_s)
