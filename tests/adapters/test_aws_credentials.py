"""The SDK's own refreshable credentials, in virtual time, with a source that is not as it should be."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import CredentialRetrievalError

from controller.adapters.aws_credentials import AGAIN_S, EARLY_DEADLINE_S, LAST_S, Credentials
from tests.simulation.seeded_loop import run

START = datetime(2030, 1, 1, tzinfo=UTC)
EARLY_S = 14 * 60.0
"""Left of the credentials at the start: the SDK renews them, and makes nobody wait for it."""
LATE_S = 9 * 60.0
"""The SDK makes everybody wait."""

Answer = Callable[[], Awaitable[float]]


def now() -> datetime:
    return START + timedelta(seconds=anyio.current_time())


@dataclass
class Source:
    """Gives credentials for so many seconds from now, as ``answer`` has it. Also the SDK's session."""

    answer: Answer
    left_s: float
    asked: int = 0
    credentials: Any = field(init=False)

    def __post_init__(self) -> None:
        make: Any = AioRefreshableCredentials
        self.credentials = make("a", "s", "t", now() + timedelta(seconds=self.left_s), self.ask, "test", now)

    async def get_credentials(self) -> Any:
        return self.credentials

    async def ask(self) -> dict[str, str]:
        self.asked += 1
        left_s = await self.answer()
        expiry = (now() + timedelta(seconds=left_s)).isoformat()
        return {"access_key": f"a{self.asked}", "secret_key": "s", "token": "t", "expiry_time": expiry}


async def opened(answer: Answer, *, left_s: float) -> tuple[Credentials, Source]:
    source = Source(answer, left_s)
    credentials = Credentials(source)
    assert await credentials.find()
    await fetched(credentials)
    return credentials, source


async def fetched(credentials: Credentials) -> bool:
    """Whether there was something to wait for."""
    if (fetching := credentials.fetch()) is None:
        return False
    await fetching
    return True


async def failing() -> float:
    raise CredentialRetrievalError(provider="test", error_msg="no")


async def hanging() -> float:
    await anyio.sleep_forever()
    return 0.0


async def renewing() -> float:
    return 3600.0


def ends_at(left_s: float) -> Answer:
    """The same again, until it ends."""

    async def answer() -> float:
        return left_s - anyio.current_time()

    return answer


@pytest.mark.parametrize("left_s", [EARLY_S, LATE_S])
def test_a_source_that_gives_the_same_again_is_not_asked_by_every_call(left_s: float) -> None:
    """Calls are paced by then; each would wait for it, and the next behind it."""

    async def main() -> None:
        credentials, source = await opened(ends_at(left_s), left_s=left_s)
        assert not await fetched(credentials)
        await source.credentials.get_frozen_credentials()  # as a call does that is signed
        assert source.asked == 1
        await anyio.sleep(AGAIN_S)
        assert await fetched(credentials)

    run(1, main)


@pytest.mark.parametrize(("answer", "takes_s"), [(failing, 0.0), (hanging, EARLY_DEADLINE_S)])
def test_a_source_that_fails_holds_up_nobody_while_there_are_credentials(answer: Answer, takes_s: float) -> None:
    """They are good for a quarter of an hour; the source is asked again now and then."""

    async def main() -> None:
        credentials, source = await opened(answer, left_s=EARLY_S)
        assert anyio.current_time() == takes_s
        assert (await source.credentials.get_frozen_credentials()).access_key == "a"
        assert not await fetched(credentials)
        assert source.asked == 1
        await anyio.sleep(AGAIN_S)
        source.answer = renewing
        assert await fetched(credentials)
        assert (await source.credentials.get_frozen_credentials()).access_key == "a2"

    run(1, main)


def test_a_source_that_fails_when_they_are_about_to_end_is_told_to_every_call() -> None:
    """Later than that the SDK signs nothing with them."""

    async def main() -> None:
        credentials, source = await opened(ends_at(LATE_S), left_s=LATE_S)
        source.answer = failing
        await anyio.sleep(AGAIN_S)
        for _ in range(2):
            with pytest.raises(CredentialRetrievalError):
                await fetched(credentials)
        source.answer = renewing
        assert await fetched(credentials)
        assert not await fetched(credentials)

    run(1, main)


def test_they_are_renewed_in_their_last_minute_even_if_that_was_just_tried() -> None:
    """Nothing is signed with what ends on the way."""

    async def main() -> None:
        credentials, source = await opened(ends_at(LAST_S + 1), left_s=LAST_S + 1)
        assert not await fetched(credentials)
        await anyio.sleep(2)
        source.answer = renewing
        assert await fetched(credentials)
        assert not await fetched(credentials)
        assert source.asked == 2

    run(1, main)


@pytest.mark.parametrize(
    "profiles", ["", "role_arn = arn:aws:iam::111122223333:role/r\nsource_profile = program\n[profile program]\n"]
)
async def test_a_program_that_is_waited_for_no_longer_is_ended(
    bare_environment: pytest.MonkeyPatch, tmp_path: Path, profiles: str
) -> None:
    """With what it has started. Left running, one that hangs would be a process more each time that it is asked."""
    alive, program = tmp_path / "alive", tmp_path / "program"
    os.mkfifo(alive)
    program.write_text(f"#!/bin/sh\nexec 3> {alive}\necho >&3\nsleep 60\ntrue\n")
    program.chmod(0o700)
    (tmp_path / "config").write_text(f"[default]\n{profiles}credential_process = {program}\n")
    session: Any = AioSession()  # type: ignore[no-untyped-call]

    async def ask() -> None:
        await Credentials(session).find()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            open_alive = partial(alive.open, encoding="ascii")
            held = await anyio.to_thread.run_sync(open_alive, abandon_on_cancel=True)
            await anyio.to_thread.run_sync(held.readline, abandon_on_cancel=True)
            tasks.cancel_scope.cancel()
        with held:
            assert await anyio.to_thread.run_sync(held.read, abandon_on_cancel=True) == ""
