"""The real process, started wrongly: one clear message, the right exit code, no traceback, within seconds."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from controller.__main__ import with_command
from controller.adapters.store.sqlite_file import migrations

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
QUEUE = "https://sqs.eu-central-1.amazonaws.com/111122223333/requests"
SECONDS_MAX = 20
"""Of which the process itself takes one or two; the rest is for a busy machine."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
REGION = {"AWS_REGION": "eu-central-1"}


def ended(
    tmp_path: Path, *arguments: str, shell: str = 'exec "$@"', **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in an empty folder, with these variables and none of the caller's own, as ``shell`` does."""
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
        **variables,
    }
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "controller", *arguments]
    return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=SECONDS_MAX)


def told(process: subprocess.CompletedProcess[str], *, exit_code: int) -> str:
    """The one message on standard error, after checking all that holds for each."""
    assert "Traceback" not in process.stderr
    assert process.returncode == exit_code, process.stderr
    assert process.stdout == ""
    messages = [line for line in process.stderr.splitlines() if line.startswith("batch-controller: ")]
    assert len(messages) == 1, process.stderr
    return messages[0]


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("", ""),
        ("run --queue-url u", "run --queue-url u"),
        ("--queue-url u", "run --queue-url u"),
        ("--queue-url=u --config f", "run --queue-url=u --config f"),
        ("-c f", "run -c f"),
        ("-cf", "run -cf"),
        ("--config f check-config", "check-config --config f"),
        ("--config check-config", "run --config check-config"),
        ("--version", "version"),
        ("--help", "--help"),
        ("-h", "-h"),
        ("nonsense", "nonsense"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_run_may_be_left_out(given: str, understood: str) -> None:
    """The command comes first or not at all; what is neither is left for the parser to refuse."""
    assert with_command(given.split(), {}) == understood.split()


def test_without_an_argument_it_runs_if_the_environment_says_what_to_consume() -> None:
    """As a container without arguments would; else help is shown."""
    assert with_command([], {"BATCH_CONTROLLER_INTAKE__QUEUE_URLS": "[]"}) == ["run"]


def test_an_option_alone_runs_the_controller(tmp_path: Path) -> None:
    """It gets as far as looking at the value."""
    message = told(ended(tmp_path, "--queue-url", "nonsense"), exit_code=2)
    assert "intake.queue_urls[0] (flag --queue-url): is not a URL" in message


def store_at(path: Path) -> dict[str, str]:
    return {"BATCH_CONTROLLER_STORE__URL": f"sqlite:///{path}", "BATCH_CONTROLLER_HTTP__PORT": "0"}


# --- the configuration, which needs no AWS --------------------------------------------------------------


def test_an_unknown_key_in_the_file(tmp_path: Path) -> None:
    """The message names key, file and the nearest key; exit code 2."""
    (tmp_path / "c.yaml").write_text("submit: {rate: 5}\n")
    message = told(ended(tmp_path, "run", "--config", "c.yaml", "--queue-url", QUEUE), exit_code=2)
    assert "submit.rate (file c.yaml): no such key; did you mean submit.rate_per_s?" in message


def test_an_unknown_environment_variable(tmp_path: Path) -> None:
    """The message names the variable and the nearest one; exit code 2."""
    message = told(ended(tmp_path, "run", "--queue-url", QUEUE, BATCH_CONTROLLER_SUBMIT__RATE="5"), exit_code=2)
    assert "BATCH_CONTROLLER_SUBMIT__RATE (environment)" in message
    assert "BATCH_CONTROLLER_SUBMIT__RATE_PER_S" in message


def test_a_bad_queue_url(tmp_path: Path) -> None:
    """The message names the flag and what is wrong with the URL; exit code 2."""
    message = told(ended(tmp_path, "run", "--queue-url", "requests"), exit_code=2)
    assert "intake.queue_urls[0] (flag --queue-url): is not a URL" in message


def test_no_queue_url(tmp_path: Path) -> None:
    """The message says how to give one; exit code 2."""
    assert "--queue-url URL" in told(ended(tmp_path, "run"), exit_code=2)


def test_a_missing_file(tmp_path: Path) -> None:
    """The message names the path; exit code 2."""
    assert "--config none.yaml: can't be read" in told(ended(tmp_path, "run", "--config", "none.yaml"), exit_code=2)


def test_what_is_not_built_yet(tmp_path: Path) -> None:
    """A PostgreSQL store is refused with a message that says so and shows no password; exit code 2."""
    url = "postgresql://user:hidden@db/controller"
    message = told(ended(tmp_path, "run", "--queue-url", QUEUE, BATCH_CONTROLLER_STORE__URL=url), exit_code=2)
    assert "not built yet" in message
    assert "hidden" not in message


def test_several_problems_are_several_lines(tmp_path: Path) -> None:
    """Each problem is a line of its own, so that all can be corrected at once."""
    variables = {"HTTP__PORT": "x", "LOG__LEVEL": "loud", "NOTHING": "1"}
    environ = {f"BATCH_CONTROLLER_{name}": value for name, value in variables.items()}
    process = ended(tmp_path, "check-config", "--queue-url", QUEUE, **environ)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert len([line for line in process.stderr.splitlines() if line.startswith("batch-controller: ")]) == 3


@pytest.mark.parametrize(
    "arguments", [("rum",), ("run", "--queue"), ("run", "--queue-url"), ("demo", "--requests", "0")]
)
def test_a_wrong_command_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """An unknown command or option, or a missing value, is told; exit code 2."""
    process = ended(tmp_path, *arguments)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert "Error: " in process.stderr


# --- the machine and AWS's surroundings -----------------------------------------------------------------


def test_no_region(tmp_path: Path) -> None:
    """Without a Region anywhere the message says where to give one; exit code 2."""
    process = ended(tmp_path, "run", "--queue-url", QUEUE, **CREDENTIALS, **store_at(tmp_path / "s.db"))
    message = told(process, exit_code=2)
    assert "Region" in message
    assert "AWS_REGION" in message


def test_no_source_of_credentials(tmp_path: Path) -> None:
    """Without any source of credentials the message says so; exit code 2."""
    process = ended(tmp_path, "run", "--queue-url", QUEUE, **REGION, **store_at(tmp_path / "s.db"))
    assert "credentials" in told(process, exit_code=2)


def test_the_port_is_in_use(tmp_path: Path) -> None:
    """The message names port and key; exit code 1, before anything is asked of AWS."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        variables = {
            **CREDENTIALS,
            **REGION,
            **store_at(tmp_path / "s.db"),
            "BATCH_CONTROLLER_HTTP__HOST": "127.0.0.1",
            "BATCH_CONTROLLER_HTTP__PORT": port,
        }
        message = told(ended(tmp_path, "run", "--queue-url", QUEUE, **variables), exit_code=1)
    assert f"port {port}" in message
    assert "BATCH_CONTROLLER_HTTP__PORT" in message


def test_the_store_s_path_can_t_be_written(tmp_path: Path) -> None:
    """A path below a file, where nobody may write, is named; exit code 1."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "s.db"
    process = ended(tmp_path, "run", "--queue-url", QUEUE, **CREDENTIALS, **REGION, **store_at(path))
    assert str(path.parent) in told(process, exit_code=1)


def test_the_store_is_locked_by_another_process(tmp_path: Path) -> None:
    """A store that another process holds is told as such; exit code 1."""
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        process = ended(tmp_path, "run", "--queue-url", QUEUE, **CREDENTIALS, **REGION, **store_at(path))
    assert str(path) in told(process, exit_code=1)


# --- what works without AWS -----------------------------------------------------------------------------


def test_check_config_prints_the_effective_configuration(tmp_path: Path) -> None:
    """YAML with every section on standard output, warnings on standard error, exit code 0 without AWS."""
    process = ended(tmp_path, "check-config", "--queue-url", QUEUE, BATCH_CONTROLLER_SUBMIT__SETTLE_S="5")
    assert process.returncode == 0
    effective = yaml.safe_load(process.stdout)
    assert effective["submit"]["settle_s"] == 5
    assert effective["intake"]["queue_urls"] == [QUEUE]
    warned = [line.split(": ")[1] for line in process.stderr.splitlines() if line.startswith("warning: ")]
    assert warned == ["intake.dead_letter_queue_url", "submit.settle_s"]


def test_schema_prints_json_schemas(tmp_path: Path) -> None:
    """`schema` prints the message's schema, `schema --events` one per event; both are JSON Schema 2020-12."""
    message = json.loads(ended(tmp_path, "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(message)
    request = {"jobName": "n", "jobQueue": "q", "jobDefinition": "d"}
    validator = jsonschema.Draft202012Validator(message)
    assert validator.is_valid(request)
    assert not validator.is_valid({**request, "jobNam": "n"})
    events = json.loads(ended(tmp_path, "schema", "--events").stdout)
    assert events["job.finished"]["properties"]["event"]["const"] == "job.finished"
    for schema in events.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_schema_needs_nothing_of_aws(tmp_path: Path) -> None:
    """A profile that is not there is no matter of the schema's."""
    assert json.loads(ended(tmp_path, "schema", AWS_PROFILE="nowhere").stdout)["title"]


def test_messages_are_checked_before_they_are_sent(tmp_path: Path) -> None:
    """`validate` needs neither AWS nor a queue to consume; 0: all fine, 1: one is refused, 2: it was used wrongly."""
    (tmp_path / "c.yaml").write_text("policy: {allowed_job_queues: [high]}\n")
    request = {"requestId": "r", "jobName": "n", "jobQueue": "high", "jobDefinition": "d"}
    lines = [json.dumps(each) for each in (request, {**request, "jobQueue": "low"})]
    (tmp_path / "one.json").write_text(lines[0])
    (tmp_path / "two.jsonl").write_text("\n".join(lines))
    fine = ended(tmp_path, "validate", "one.json", "--account", "111122223333", AWS_PROFILE="nowhere")
    assert (fine.returncode, fine.stdout) == (0, "ok r (one.json)\n")
    assert "not checked: the policy" in fine.stderr
    mixed = ended(tmp_path, "--config", "c.yaml", "validate", "--lines", shell='exec "$@" < two.jsonl')
    assert mixed.returncode == 1
    assert mixed.stdout.splitlines() == [
        "ok r (standard input, line 1)",
        "refused r (standard input, line 2): not_allowed",
        "  jobQueue: policy.allowed_job_queues does not let this job queue through",
    ]
    assert "not checked: the policy" not in mixed.stderr
    assert "none.json: can't be read" in told(ended(tmp_path, "validate", "none.json"), exit_code=2)
    assert "sumbit" in told(ended(tmp_path, "validate", "one.json", BATCH_CONTROLLER_SUMBIT="1"), exit_code=2).lower()


def test_help_teaches_and_version_is_told(tmp_path: Path) -> None:
    """--help has examples, variables and exit codes; `version` prints the version, and that of the store's schema, by
    which one sees whether an older release can open it."""
    text = ended(tmp_path, "--help").stdout
    for part in ("Examples:", "BATCH_CONTROLLER_QUEUES=", "Exit codes:", "AWS_ENDPOINT_URL_BATCH"):
        assert part in text
    program, schema = ended(tmp_path, "version").stdout.splitlines()
    assert program.startswith("batch-controller 0.")
    assert schema == f"store schema {len(migrations())}"


def test_a_standard_output_that_is_closed_is_told(tmp_path: Path) -> None:
    """Events written to it would be lost."""
    variables = {**CREDENTIALS, **REGION, **store_at(tmp_path / "state.db")}
    process = ended(tmp_path, "run", "--queue-url", QUEUE, shell='exec "$@" >&-', **variables)
    assert "standard output" in told(process, exit_code=2)


SIGNALLED = """
import os, signal, sys
from controller.__main__ import main

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

class AtTheFirst:  # the first module that the command loads
    def find_spec(self, *_):
        sys.meta_path.remove(self)
        Finalized()

sys.meta_path.insert(0, AtTheFirst())
main()
"""


@pytest.mark.parametrize(
    ("arguments", "exit_code"), [(("run", "--queue-url", QUEUE), 0), (("check-config", "--queue-url", QUEUE), 143)]
)
def test_a_signal_while_it_loads_ends_it_wherever_it_comes(
    tmp_path: Path, arguments: tuple[str, ...], exit_code: int
) -> None:
    """Also where Python swallows exceptions: in a finalizer."""
    environ = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), **store_at(tmp_path / "state.db")}
    command = [sys.executable, "-c", SIGNALLED, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, "", "")


def test_without_variables_none_are_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests here see only what they set themselves."""
    variables: Mapping[str, str] = {"BATCH_CONTROLLER_NOTHING": "1", "AWS_REGION": "eu-central-1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ended(tmp_path, "check-config", "--queue-url", QUEUE).returncode == 0
