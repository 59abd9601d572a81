"""Whose credentials these are, behind the AccountApi port."""

from __future__ import annotations

from typing import Any, Final

from controller.adapters.aws_call import Calls, Observe
from controller.core.errors import Unavailable
from controller.ports import Clock

_CALL: Final = "sts:GetCallerIdentity"


class Account:
    """AccountApi on an aiobotocore STS client. The call needs no permission, but a policy may deny it."""

    def __init__(self, *, client: Any, clock: Clock, observe: Observe) -> None:
        self._client = client
        self._calls = Calls("sts", clock=clock, observe=observe)

    async def account(self) -> str:
        async def call() -> str:
            account = (await self._client.get_caller_identity()).get("Account")
            if not isinstance(account, str) or not account:
                raise Unavailable(f"{_CALL}: an answer without an account", call=_CALL, code="IncompleteAnswer")
            return account

        return await self._calls.send("GetCallerIdentity", call)
