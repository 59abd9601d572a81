"""When the session's credentials are renewed: early enough, and not by every call.

The SDK renews them from a quarter of an hour before their end on, and makes calls wait for it from ten minutes before
it. Within that time each call that it signs asks the source anew, whether the last answer was an error or the same
credentials once more. Sources that keep what they have until shortly before its end (instance metadata, programs) give
those, and a role whose sessions take a quarter of an hour is never out of that time. A call waits for the answer when
its turn has come, with all calls of its kind behind it, and by then its turn is over.

So the source is asked once in ``AGAIN_S`` while there are credentials to sign with.

Where it is a program (``credential_process``), the SDK leaves one running that it has waited for long enough, with its
pipes. One that hangs would be one process more for each time that it is asked; it is ended here.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any, Final

import anyio
from botocore import exceptions as sdk

AGAIN_S: Final = 30.0
"""After the source was asked. It has ten times in the five minutes in which the SDK makes nobody wait."""
EARLY_DEADLINE_S: Final = 5.0
"""For a source that is asked early, while the present credentials are good for ten minutes."""
LAST_S: Final = 60.0
"""So shortly before their end they are renewed whenever they are used."""
KILLED_S: Final = 1.0
"""For a program that was killed to be gone."""


class Credentials:
    """The SDK's, one set per session, which all its clients use. Asked before every paced call, so that it costs next
    to nothing when nothing is due."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._found: Any = None

    async def find(self) -> bool:
        """Whether there is a source of them. Raises the SDK's errors."""
        with suppress(AttributeError):
            _end_programs(self._session.get_component("credential_provider").providers)
        found = await self._session.get_credentials()
        if found is not None:
            with suppress(AttributeError):  # those without an end; and a later SDK is left to itself
                _Renewal(found)
        return found is not None

    def fetch(self) -> Awaitable[object] | None:
        """Have the SDK renew them; None if they are not due. Raises the SDK's errors when awaited."""
        if self._found is None:
            return self._renewed()
        is_due = getattr(self._found, "refresh_needed", None)  # those without an end have none
        return self._renewed() if is_due is not None and is_due() else None

    async def _renewed(self) -> object:
        found = await self._session.get_credentials()
        if found is None:
            raise sdk.NoCredentialsError
        frozen = await found.get_frozen_credentials()
        self._found = found
        return frozen


class _Renewal:
    """Put in place of the two questions that a set of the SDK's asks: whether it is to be renewed, and with what."""

    def __init__(self, found: Any) -> None:
        self._is_needed = found.refresh_needed
        self._source = found._refresh_using
        self._must_s = found._mandatory_refresh_timeout
        self._again_at = 0.0
        found.refresh_needed = self.is_needed
        found._refresh_using = self.renewed

    def is_needed(self, refresh_in: float | None = None) -> bool:
        """``refresh_in``: seconds before their end, the SDK's early ones if None."""
        is_due = bool(self._is_needed(refresh_in))
        return is_due and (anyio.current_time() >= self._again_at or bool(self._is_needed(LAST_S)))

    async def renewed(self) -> object:
        if self._is_needed(self._must_s):
            answer = await self._asked()
            self._again_at = anyio.current_time() + AGAIN_S
            return answer
        try:
            with anyio.fail_after(EARLY_DEADLINE_S):
                return await self._asked()
        finally:
            self._again_at = anyio.current_time() + AGAIN_S

    async def _asked(self) -> object:
        answer = self._source()
        return await answer if isawaitable(answer) else answer


def _end_programs(providers: Iterable[Any]) -> None:
    """Have programs that are waited for no longer ended, also those that give the credentials for taking on a role."""
    for provider in providers:
        if hasattr(provider, "_popen"):
            provider._popen = _run
        if (builder := getattr(provider, "_profile_provider_builder", None)) is not None:
            builder._create_process_provider = partial(_made, builder._create_process_provider)


def _made(make: Callable[[str], Any], profile_name: str) -> Any:
    provider = make(profile_name)
    provider._popen = _run
    return provider


async def _run(*command: str, stdout: int, stderr: int) -> _Program:
    return _Program(
        await asyncio.create_subprocess_exec(*command, stdout=stdout, stderr=stderr, start_new_session=True)
    )


@dataclass(frozen=True, slots=True)
class _Program:
    """As the SDK uses it; with what it has started itself, it is the only one of its session."""

    process: asyncio.subprocess.Process

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        try:
            return await self.process.communicate()
        finally:
            if self.process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                with anyio.move_on_after(KILLED_S, shield=True):
                    await self.process.communicate()  # reads both pipes to their ends, which closes them
