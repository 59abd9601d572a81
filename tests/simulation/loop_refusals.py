"""What a deterministic run can't give, refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from tests.simulation.loop_errors import RefusedInSimulation

_REFUSED = {
    "a thread": ("run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo"),
    "a socket": (
        "create_connection", "create_server", "create_datagram_endpoint", "create_unix_connection",
        "create_unix_server", "connect_accepted_socket", "start_tls", "sendfile",
        "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto",
        "sock_connect", "sock_accept", "sock_sendfile",
    ),
    "a file descriptor": ("add_reader", "remove_reader", "add_writer", "remove_writer"),
    "a pipe": ("connect_read_pipe", "connect_write_pipe"),
    "a subprocess": ("subprocess_exec", "subprocess_shell"),
    "a signal handler": ("add_signal_handler", "remove_signal_handler"),
    "a task factory": ("set_task_factory",),
}  # fmt: skip


class Refusals:
    """Mixed into the loop in front of asyncio's class."""

    def refuse(self, asked_for: str) -> RefusedInSimulation:
        """The error to raise; the loop also ends the run with it."""
        return RefusedInSimulation(asked_for)


def _refusal(name: str, what: str) -> Callable[..., NoReturn]:
    def refused(self: Refusals, *_: Any, **__: Any) -> NoReturn:
        raise self.refuse(f"{name}() asks for {what}, which a simulated run does not have")

    refused.__name__ = name
    refused.__qualname__ = f"Refusals.{name}"
    return refused


for _what, _names in _REFUSED.items():
    for _name in _names:
        setattr(Refusals, _name, _refusal(_name, _what))
