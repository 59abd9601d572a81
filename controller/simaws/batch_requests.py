"""What SubmitJob takes: the checks AWS Batch makes that its SDK does not, and what a request means for its run.

Source of the rules: AWS Batch API reference (2016-08-10), SubmitJob; texts as seen in public reports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from controller.core import limits
from controller.simaws.answers import AwsError, client_error
from controller.simaws.batch_timeline import (
    APPLICATION_FAILURE,
    EXITED,
    IMAGE_PULL,
    OUT_OF_MEMORY,
    SPOT_RECLAIM,
    SUCCESS,
    Ending,
    RunSpec,
)

Request = Mapping[str, Any]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SHARE: Final = re.compile(r"[A-Za-z0-9]{0,254}[A-Za-z0-9*]")
_DEPENDENCY_TYPES: Final = ("N_TO_N", "SEQUENTIAL")


def check_submission(request: Request) -> bytes:
    """The request as JSON, or the ClientException that AWS Batch would answer with, for everything but names of other
    resources."""
    for member in ("jobName", "jobQueue", "jobDefinition"):
        if not isinstance(request.get(member), str) or not request[member]:
            raise client_error(f"Error executing request, Exception : {member} is required.")
    if not _NAME.fullmatch(request["jobName"]):
        rule = f"Job name should match valid pattern {_NAME.pattern}"
        raise client_error(f"Error executing request, Exception : {rule}")
    payload = orjson.dumps(request)
    if len(payload) > limits.PAYLOAD_BYTES_MAX:
        raise client_error("Error executing request, Exception : Job payload exceeds the limit of 30 KiB.")
    _check_array(request)
    _check_dependencies(request.get("dependsOn") or ())
    _check_retry(request.get("retryStrategy"))
    _check_timeout(request.get("timeout"))
    _check_tags(request.get("tags"))
    _check_environment(request)
    _check_share(request)
    return payload


def _check_array(request: Request) -> None:
    properties = request.get("arrayProperties")
    if properties is None:
        return
    size = properties.get("size")
    if not _is_int(size) or not limits.ARRAY_SIZE_MIN <= size <= limits.ARRAY_SIZE_MAX:
        raise client_error("Error executing request, Exception : Array size must be between 2 and 10000.")


def _check_dependencies(depends_on: Sequence[Mapping[str, Any]]) -> None:
    if len(depends_on) > limits.DEPENDENCIES_MAX:
        raise client_error("Error executing request, Exception : Cannot have more than 20 dependencies.")
    for dependency in depends_on:
        kind = dependency.get("type")
        if kind is not None and kind not in _DEPENDENCY_TYPES:
            raise client_error(f"Error executing request, Exception : Unknown dependency type {kind}.")
        if not dependency.get("jobId") and kind != "SEQUENTIAL":
            raise client_error("Error executing request, Exception : dependsOn requires a jobId.")


def _check_retry(strategy: Mapping[str, Any] | None) -> None:
    if not strategy:
        return
    attempts, rules = strategy.get("attempts"), strategy.get("evaluateOnExit") or ()
    if attempts is None and rules:
        raise client_error("Error executing request, Exception : RetryAttempts must be provided with retry strategy")
    if attempts is not None and not (_is_int(attempts) and limits.ATTEMPTS_MIN <= attempts <= limits.ATTEMPTS_MAX):
        raise client_error("Error executing request, Exception : Retry attempts must be between 1 and 10.")
    if len(rules) > limits.EVALUATE_ON_EXIT_MAX:
        raise client_error("Error executing request, Exception : At most 5 evaluateOnExit conditions are allowed.")
    for rule in rules:
        if str(rule.get("action", "")).upper() not in ("RETRY", "EXIT"):
            raise client_error("Error executing request, Exception : evaluateOnExit action must be RETRY or EXIT.")


def _check_timeout(timeout: Mapping[str, Any] | None) -> None:
    seconds = (timeout or {}).get("attemptDurationSeconds")
    if seconds is not None and not (_is_int(seconds) and seconds >= limits.TIMEOUT_S_MIN):
        raise client_error("Error executing request, Exception : attemptDurationSeconds must be at least 60.")


def _check_tags(tags: Mapping[str, str] | None) -> None:
    if not tags:
        return
    if len(tags) > limits.TAGS_MAX:
        raise client_error("Error executing request, Exception : Cannot have more than 50 tags.")
    for key, value in tags.items():
        if not 1 <= len(key) <= limits.TAG_KEY_LENGTH_MAX or len(value) > limits.TAG_VALUE_LENGTH_MAX:
            raise client_error("Error executing request, Exception : Invalid tag key or value.")


def _check_environment(request: Request) -> None:
    for variable in (request.get("containerOverrides") or {}).get("environment") or ():
        if str(variable.get("name", "")).startswith("AWS_BATCH"):
            raise client_error("Error executing request, Exception : Environment names may not start with AWS_BATCH.")


def _check_share(request: Request) -> None:
    share = request.get("shareIdentifier")
    if share is not None and not _SHARE.fullmatch(share):
        raise client_error("Error executing request, Exception : Invalid shareIdentifier.")
    priority = request.get("schedulingPriorityOverride")
    if priority is not None and not (_is_int(priority) and 0 <= priority <= limits.SCHEDULING_PRIORITY_MAX):
        raise client_error("Error executing request, Exception : schedulingPriorityOverride must be 0 to 9999.")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- what a request means for its run --------------------------------------------------------------------

_PLAIN: Final = RunSpec()
_ENDINGS: Final[Mapping[str, Ending]] = {
    "success": SUCCESS,
    "application": APPLICATION_FAILURE,
    "out-of-memory": OUT_OF_MEMORY,
    "spot": SPOT_RECLAIM,
    "image-pull": IMAGE_PULL,
}


def run_spec(request: Request, definition: Request) -> RunSpec:
    """How a job will run. Its container environment may say so itself:

    ``SIM_SECONDS`` run time of each attempt; ``SIM_EXIT`` exit code; ``SIM_REASON`` the container's reason, or the
    status reason if it starts with ``Host EC2``; ``SIM_ENDING`` one of success, application, out-of-memory, spot,
    image-pull; ``SIM_FAIL_ATTEMPTS`` only so many attempts end that way, the next one succeeds.
    """
    strategy = request.get("retryStrategy") or definition.get("retryStrategy") or {}
    timeout = request.get("timeout") or definition.get("timeout") or {}
    overrides = request.get("containerOverrides")
    wishes = _wishes(definition.get("containerProperties"), overrides)
    is_refused = overrides is not None and len(orjson.dumps(overrides)) > limits.OVERRIDES_LENGTH_MAX
    if not strategy and not timeout and not wishes and not is_refused:
        return _PLAIN
    timeout_s = timeout.get("attemptDurationSeconds")
    return RunSpec(
        attempts_max=int(strategy.get("attempts") or 1),
        rules=tuple(strategy.get("evaluateOnExit") or ()),
        timeout_s=None if timeout_s is None else float(timeout_s),
        seconds=_number(wishes, "SIM_SECONDS"),
        ending=_wished_ending(wishes),
        failing_attempts=None if (n := _number(wishes, "SIM_FAIL_ATTEMPTS")) is None else int(n),
        is_refused=is_refused,
    )


def _wishes(*containers: Mapping[str, Any] | None) -> dict[str, str]:
    return {
        variable["name"]: variable.get("value", "")
        for container in containers
        if container
        for variable in container.get("environment") or ()
        if str(variable.get("name", "")).startswith("SIM_")
    }


def _number(wishes: Mapping[str, str], name: str) -> float | None:
    try:
        return max(0.0, float(wishes[name])) if name in wishes else None
    except ValueError as error:
        raise client_error(f"{name} must be a number") from error


def _wished_ending(wishes: Mapping[str, str]) -> Ending | None:
    if not wishes.keys() & {"SIM_EXIT", "SIM_REASON", "SIM_ENDING"}:
        return None
    name = wishes.get("SIM_ENDING", "success")
    if name not in _ENDINGS:
        raise client_error(f"SIM_ENDING must be one of {', '.join(_ENDINGS)}")
    ending, reason = _ENDINGS[name], wishes.get("SIM_REASON")
    if (code := _number(wishes, "SIM_EXIT")) is not None:
        ending = replace(ending, exit_code=int(code), is_success=code == 0, status_reason=EXITED)
    if reason is not None and reason.startswith("Host EC2"):
        return replace(ending, status_reason=reason, exit_code=None, is_success=False)
    return ending if reason is None else replace(ending, reason=reason)


def vcpus_of(request: Request, definition: Request) -> float:
    """vCPUs that a job (or each child) asks for; 1 if nobody says."""
    for container in (request.get("containerOverrides"), definition.get("containerProperties")):
        for requirement in (container or {}).get("resourceRequirements") or ():
            if requirement.get("type") == "VCPU":
                try:
                    return float(requirement["value"])
                except ValueError as error:
                    raise client_error("Error executing request, Exception : Invalid VCPU value.") from error
    return 1.0


def require_list(request: Request, member: str, *, most: int, text: str) -> list[str]:
    """A list of at most ``most`` strings, as DescribeJobs and its kin take it."""
    values = request.get(member)
    if not isinstance(values, list) or any(not isinstance(v, str) for v in values):
        raise AwsError("ClientException", f"Error executing request, Exception : {member} must be a list of strings.")
    if len(values) > most:
        raise client_error(text)
    return values
