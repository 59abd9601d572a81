"""Runs the real ``batch-controller run`` and tells where its CPU time went: ``python -m benchmarks.sampled OUT …``.

ITIMER_PROF ticks with the process's own CPU time; each tick looks at the main thread's stack and counts for the
outermost stage on it. What runs in the store's thread is read from the kernel's accounting of that thread. Writes one
JSON object to OUT at the end: CPU seconds by part, in all, and peak memory.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

TICK_S = 0.01
"""Each tick costs about 20 µs of what it measures."""
PARTS = (
    ("/controller/stages/", None),
    ("/controller/adapters/ops_server.py", "metrics"),
    ("/controller/adapters/store/", "store calls"),
)


class Sampler:
    """Counts ticks by part of the program."""

    def __init__(self) -> None:
        self.ticks: Counter[str] = Counter()
        self._parts: dict[str, str | None] = {}

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _tick(self, _: int, frame: FrameType | None) -> None:
        part = "event loop, sockets"
        known = self._parts
        while frame is not None:  # the outermost match counts: a stage, whatever it calls
            path = frame.f_code.co_filename
            if path not in known:
                known[path] = _part(path)
            part = known[path] or part
            frame = frame.f_back
        self.ticks[part] += 1


def _part(path: str) -> str | None:
    for fragment, name in PARTS:
        if fragment in path:
            return name or Path(path).stem
    return None


def _thread_cpu_s() -> float:
    """CPU of all threads but the main one; they are still alive when this is called."""
    ticks = 0
    main = str(threading.main_thread().native_id)
    for task in Path("/proc/self/task").iterdir():
        if task.name != main:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / 100  # USER_HZ is 100 on Linux


def main() -> int:
    out, arguments = Path(sys.argv[1]), sys.argv[2:]
    from controller import __main__ as command
    from controller import application

    threads: dict[str, float] = {}
    run = application.Application.run

    async def run_and_account(self: Any) -> None:
        try:
            await run(self)
        finally:
            threads["store and other threads"] = _thread_cpu_s()

    application.Application.run = run_and_account  # type: ignore[method-assign]
    sampler = Sampler()
    sampler.start()
    sys.argv = ["batch-controller", *arguments]
    code = 0
    try:
        command.main()
    except SystemExit as end:
        code = int(end.code or 0)
    sampler.stop()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    total_s = usage.ru_utime + usage.ru_stime
    main_s = total_s - sum(threads.values())
    count = sum(sampler.ticks.values()) or 1
    parts = {name: main_s * ticks / count for name, ticks in sampler.ticks.items()}
    out.write_text(json.dumps({"cpu_s": total_s, "parts": {**parts, **threads}, "peak_mib": usage.ru_maxrss / 1024}))
    return code


if __name__ == "__main__":
    sys.exit(main())
