"""A simulated AWS account: Batch, SQS, EventBridge's Batch events and STS, with faults on demand.

An independent model of AWS for the demonstration, the tests and the benchmarks: it knows nothing of the controller but
AWS's limits. ``SimAws`` is the synchronous, deterministic core with time passed in; ``serve`` and ``python -m
controller.simaws`` put it behind HTTP; ``SimProcess`` starts that as a process of its own.
"""

from controller.simaws.answers import Answer, AwsError, Delivery
from controller.simaws.cloud import SimAws
from controller.simaws.events import Rule
from controller.simaws.faults import Fault, FaultPlan, ServiceFaults
from controller.simaws.history import AcceptedJob, Call, History, MessageAction
from controller.simaws.http import SimServer, serve
from controller.simaws.process import SimProcess
from controller.simaws.profile import FAST, PROFILES, REALISTIC, Profile

__all__ = [
    "FAST",
    "PROFILES",
    "REALISTIC",
    "AcceptedJob",
    "Answer",
    "AwsError",
    "Call",
    "Delivery",
    "Fault",
    "FaultPlan",
    "History",
    "MessageAction",
    "Profile",
    "Rule",
    "ServiceFaults",
    "SimAws",
    "SimProcess",
    "SimServer",
    "serve",
]
