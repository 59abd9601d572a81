"""Whose credentials these are, behind the AccountApi port."""

from __future__ import annotations

from typing import Any, Final

from controller.adapters.aws_call import Calls, Observe
from controller.core.errors import BadCredentials, Unavailable
from controller.ports import Clock

_CALL: Final = "sts:GetCallerIdentity"
DEADLINE_S: Final = 5.0
"""The start waits for it, and can do without."""


class Account:
    """AccountApi on an aiobotocore STS client. The call needs no permission, but a policy may deny it.

    With ``is_apart`` STS may know nothing of these credentials: AWS Batch is elsewhere (a stand-in at an end point of
    its own). Then it is Unavailable what it refuses.
    """

    def __init__(self, *, client: Any, clock: Clock, observe: Observe, is_apart: bool = False) -> None:
        self._client = client
        self._is_apart = is_apart
        self._calls = Calls("sts", clock=clock, observe=observe)

    async def account(self) -> str:
        async def call() -> str:
            account = (await self._client.get_caller_identity()).get("Account")
            if not isinstance(account, str) or not account:
                raise Unavailable(f"{_CALL}: an answer without an account", call=_CALL, code="IncompleteAnswer")
            return account

        try:
            return await self._calls.send("GetCallerIdentity", call, deadline_s=DEADLINE_S)
        except BadCredentials as error:
            if not self._is_apart:
                raise
            raise Unavailable(
                f"{error} (STS is AWS's own, AWS Batch is not: set AWS_ENDPOINT_URL_STS as well)", call=_CALL
            ) from error
