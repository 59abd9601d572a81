"""Whose credentials these are, and whose store: it is bound to one account and Region, and refuses others.

STS tells the account, where it may be asked; else the first job's ARN does. Where STS does not answer at the start, it
is asked on: with a wrong account's credentials every job that is followed would look forgotten.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from controller.core.errors import BadCredentials, NotAllowed, OutwardError, StoreUnavailable
from controller.health import Health
from controller.loop import Backoff, Drain
from controller.ports import AccountApi, JobStore, StoreIdentity

CREDENTIALS_RETRY_S: Final = 15.0
ACCOUNT_TRIES: Final = 3
ASK_AGAIN_S: Final = 60
"""Between further tries, while neither STS nor a job has told the account."""


class Identity:
    """The account of the credentials and that of the store."""

    def __init__(
        self,
        *,
        region: str,
        store: JobStore,
        api: AccountApi,
        health: Health,
        drain: Drain,
        chance: Callable[[], float],
    ) -> None:
        self.region = region
        self._store = store
        self._api = api
        self._health = health
        self._drain = drain
        self._chance = chance
        self._account: str | None = None
        self._bound_account = ""
        self._is_denied = False
        """STS may not be asked: to ask on would bring nothing."""
        self._log = structlog.get_logger(stage="app")

    @property
    def is_known(self) -> bool:
        """Whether the account of the credentials is."""
        return self._account is not None

    @property
    def account(self) -> str | None:
        """Of the credentials, as far as known, or else of the store, from an earlier start."""
        return self._account or self._bound_account or None

    async def settle(self) -> None:
        """Hold the store against the account that the credentials belong to. Raises StoreMismatch."""
        tries = 0
        while not self._drain.is_requested:
            try:
                self._account = await self._api.account()
                break
            except BadCredentials as error:
                self._health.refused("sts:GetCallerIdentity", str(error))
                await self._drain.sleep(CREDENTIALS_RETRY_S)
            except OutwardError as error:
                tries += 1
                self._is_denied = isinstance(error, NotAllowed)
                if tries == ACCOUNT_TRIES:
                    self._log.warning("account not known before the first job", reason=str(error))
                    break
                await self._drain.sleep(1.0)
        if self._account is not None:
            self._health.worked("sts:GetCallerIdentity")
        await self._bind(self._account or "")

    async def recall(self) -> None:
        """What an earlier start has told the store. Raises StoreUnavailable."""
        identity = await self._store.identity()
        self._bound_account = "" if identity is None else identity.account

    async def learn(self, any_job_arn: Callable[[], str | None]) -> None:
        """Wait for the first job ARN, which tells the account, and ask STS on if it is not denied. Raises
        StoreMismatch."""
        for second in itertools.count(1):
            if self._drain.is_requested:
                return
            self._account = _account_in(any_job_arn())
            if self._account is None and second % ASK_AGAIN_S == 0 and not self._is_denied:
                with suppress(OutwardError):
                    self._account = await self._api.account()
            if self._account is not None:
                await self._bind(self._account)
                return
            await self._drain.sleep(1.0)

    async def _bind(self, account: str) -> None:
        backoff = Backoff(self._chance)
        while True:
            try:
                for each in (await self._account_of_stored_jobs(), account):
                    if each is not None:
                        await self._store.bind(StoreIdentity(account=each, region=self.region))
                return
            except StoreUnavailable as error:
                self._log.warning("store not ready", reason=str(error))
                if await self._drain.sleep(backoff.failed()):
                    return

    async def _account_of_stored_jobs(self) -> str | None:
        """If an earlier life ended before it had told the store what its first job had told it."""
        identity = await self._store.identity()
        if identity is None or identity.account:
            return None
        return _account_in(await self._store.any_job_arn())


def _account_in(job_arn: str | None) -> str | None:
    """``arn:aws:batch:REGION:ACCOUNT:job/ID``."""
    parts = (job_arn or "").split(":")
    return parts[4] if len(parts) > 4 else None
