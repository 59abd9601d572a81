"""The command line: arguments and environment → ``Settings`` → ``app.run``.

Anything that is wrong before the controller runs ends in one clear message on standard error and an exit code, never in
a traceback. Modules that a command needs are imported when it runs, so that ``--help`` and ``version`` stay quick.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from controller import __version__
from controller.core.errors import (
    BadCredentials,
    ControllerError,
    Misconfigured,
    StoreMismatch,
    StoreUnwritable,
)
from controller.core.text import escaped

if TYPE_CHECKING:
    from controller.config import Settings

PROGRAM: Final = "batch-controller"
EXIT_FAILED: Final = 1
EXIT_MISCONFIGURED: Final = 2

_ABOUT: Final = """Submits AWS Batch jobs from SQS exactly once, within limits, and reports how each one ended.

\b
Examples:
  batch-controller run --queue-url https://sqs.eu-central-1.amazonaws.com/111122223333/requests
  batch-controller run --config controller.yaml
  batch-controller check-config --config controller.yaml
  batch-controller schema > request.schema.json
  batch-controller validate --config controller.yaml request.json
  batch-controller show order-8812/frame-17
  batch-controller demo

'run' may be left out where something says what to consume: an option, or BATCH_CONTROLLER_INTAKE__QUEUE_URLS.

\b
Configuration: --queue-url wins over the environment, the environment over the file. Every key has a variable,
'__' between section and key; lists and maps are JSON:
  BATCH_CONTROLLER_SUBMIT__RATE_PER_S=20
  BATCH_CONTROLLER_QUEUES='{"high": {"max_in_flight": 50}}'

\b
AWS: Region from aws.region, AWS_REGION or the SDK's chain; credentials from the SDK's chain (IRSA, Pod Identity,
profiles, AWS_ACCESS_KEY_ID …); end points from AWS_ENDPOINT_URL, or AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_BATCH and
AWS_ENDPOINT_URL_STS.

\b
Exit codes:
  0  drained after SIGTERM or SIGINT
  1  port in use, path unwritable, store locked, or a stage given up
  2  wrong configuration, no Region, no source of credentials, or a store that is another account's, damaged or newer
"""


_RUN: Final = """Run the controller until SIGTERM or SIGINT, then finish what is in hand and exit.

Events go to standard output as JSON lines, logs to standard error. /metrics, /livez and /readyz are served on http.port
(8080). Stopping it leaves AWS Batch jobs alone; starting it finds them again.

\b
Examples:
  batch-controller run --queue-url https://sqs.eu-central-1.amazonaws.com/111122223333/requests
  BATCH_CONTROLLER_STORE__URL=sqlite:////data/state.db batch-controller run --config controller.yaml
"""

_CHECK: Final = """Print the effective configuration as YAML, secrets removed.

Warnings about what is unwise go to standard error; exit code 2 if it can't work. Nothing is asked of AWS.

\b
Example:
  batch-controller check-config --config controller.yaml
"""

_SCHEMA: Final = """Print the JSON Schema of the SQS message, or of the events.

\b
Examples:
  batch-controller schema > request.schema.json
  batch-controller schema --events > events.schema.json
"""

_VALIDATE: Final = """Check messages as the controller would, before they are sent.

Each FILE is one message, or with --lines each of its lines; '-' or no FILE is standard input. For each, 'ok REQUEST_ID'
is printed, or every error with its member and what would be right. With --config the controller's policy, default tags
and Region are applied. Nothing is asked of AWS, and no credentials are needed; what can't be known without is named on
standard error.

\b
Examples:
  batch-controller validate request.json
  batch-controller validate --config controller.yaml --account 111122223333 requests/*.json
  generate-requests | batch-controller validate --lines
  batch-controller validate --attribute tenant=film request.json

\b
Exit codes:
  0  all would be accepted
  1  at least one would be rejected
  2  a wrong option, configuration or file, or no message at all
"""

_DEMO: Final = """Run the controller on a simulated AWS, show it at work, and prove what became of each message.

Starts a simulated SQS and AWS Batch and a real 'batch-controller run' as processes of their own on 127.0.0.1, sends
messages of every kind, and compares what the controller reported with what AWS recorded. Takes about half a minute. No
AWS account is needed, and none is touched. Without a terminal it prints plain lines.

\b
Examples:
  batch-controller demo
  batch-controller demo --requests 2000 --seed 7
  batch-controller demo --keep

\b
Exit codes:
  0    every message ended as it must
  1    something differs, or a process died: what, and where its files are, is printed
  130  stopped by Ctrl-C before the end
"""

_SHOW: Final = """Show one request of a running controller: where it stands, and what keeps it waiting.

Asks the controller over HTTP, which answers to its own machine or pod only. Prints no part of the message's body. A
request that has ended is shown until it is forgotten, after retention.final_s (15 days).

\b
Examples:
  batch-controller show order-8812/frame-17
  kubectl --namespace batch exec statefulset/batch-job-controller -- batch-controller show order-8812/frame-17
  batch-controller show order-8812/frame-17 --json | jq '.lives[0].waits_for'

\b
Exit codes:
  0  shown
  1  no controller answers, it refuses, or it knows no such request
"""

_LIST: Final = """List the requests of a running controller, a line each.

Asks the controller over HTTP, page by page, as long as there are more. Without --state, requests of every state are
listed, in the order in which they came. Job definitions are compared as the requests name them.

\b
Examples:
  batch-controller list --state live
  batch-controller list --state QUEUED --job-queue high --tenant render
  batch-controller list --state live --job-definition render:7 --ids
  kubectl --namespace batch exec statefulset/batch-job-controller -- batch-controller list --state live --json

\b
Cancel all of them, ten messages to a call, from the SQS queue that they came from:
  batch-controller list --state live --tenant render --json |
    jq -nc --arg queue "$REQUESTS" '[inputs | select(.source == $queue) | .request_id] as $ids
      | range(0; $ids | length; 10) as $at | $ids[$at:$at + 10] | to_entries
      | map({Id: "c\\(.key)", MessageBody: ({action: "cancel", requestId: .value} | tojson)})' |
    while read -r entries; do aws sqs send-message-batch --queue-url "$REQUESTS" --entries "$entries"; done

\b
Exit codes:
  0  listed, none too
  1  no controller answers, or it refuses
"""

cli = typer.Typer(
    name=PROGRAM,
    help=_ABOUT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML file of settings.")]
QueueUrlOption = Annotated[
    list[str] | None,
    typer.Option("--queue-url", metavar="URL", help="SQS queue to consume; repeat it for several. Wins over all else."),
]
UrlOption = Annotated[
    str,
    typer.Option("--url", metavar="URL", help="Where the controller's HTTP server is (http.port).", show_default=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
URL_DEFAULT: Final = "http://127.0.0.1:8080"


@cli.command(help=_RUN, short_help="Run the controller.")
def run(config: ConfigOption = None, queue_url: QueueUrlOption = None) -> None:
    with _told():
        from controller import logs

        settings = _settings(config, queue_url)
        logs.configure(level=settings.log.level, line_format=settings.log.format)
        for warning in settings.warnings():
            logs.logger("config").warning("unwise setting", setting=warning)

        from controller.app import run as run_controller

        raise typer.Exit(run_controller(settings))


@cli.command(help=_CHECK, short_help="Print the effective configuration.")
def check_config(config: ConfigOption = None, queue_url: QueueUrlOption = None) -> None:
    with _told():
        import yaml

        settings = _settings(config, queue_url)
        for warning in settings.warnings():
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(yaml.safe_dump(settings.effective(), sort_keys=False, allow_unicode=True), nl=False)


@cli.command(help=_SCHEMA, short_help="Print the JSON Schema of messages or events.")
def schema(
    events: Annotated[bool, typer.Option("--events", help="The schemas of the events, by name.")] = False,
) -> None:
    with _told():
        typer.echo(json.dumps(_event_schemas() if events else _message_schema(), indent=2, ensure_ascii=False))


@cli.command(help=_VALIDATE, short_help="Check messages before they are sent.")
def validate(
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="Of messages; - is standard input.")] = None,
    config: ConfigOption = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="ID", help="The controller's account, to compare ARNs with.")
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="NAME=VALUE", help="Attribute of every message; repeat it for several."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of a file is a message (JSON Lines).")] = False,
) -> None:
    with _told():
        from controller.adapters.batch_model import submit_job_shape
        from controller.validate import STANDARD_INPUT, validate

        exit_code = validate(
            files or [STANDARD_INPUT],
            settings=_settings(config, None, is_consuming=False),
            is_configured=config is not None or any(name.startswith("BATCH_CONTROLLER_") for name in os.environ),
            shapes=submit_job_shape(),
            account=account,
            attributes=attribute or (),
            has_lines=lines,
        )
        raise typer.Exit(exit_code)


@cli.command(short_help="Print the version, and that of the store's schema.")
def version() -> None:
    """Print the version, and that of the store's schema: an older one is brought up to date at the start, and a newer
    one is refused."""
    from controller.adapters.store.sqlite_file import migrations

    with _told():
        typer.echo(f"{PROGRAM} {__version__}\nstore schema {len(migrations())}")


@cli.command(help=_SHOW, short_help="Show one request of a running controller.")
def show(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID")],
    url: UrlOption = URL_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    with _told():
        from controller.adapters.ops_client import OpsClient
        from controller.core.request_text import lines_of_request

        record = OpsClient(url).request(request_id)
        if as_json:
            typer.echo(_one_line(record))
        else:
            for line in lines_of_request(record["lives"]):
                typer.echo(line)


@cli.command("list", help=_LIST, short_help="List requests of a running controller.")
def list_requests(
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="QUEUED, SUBMITTING, TRACKED, SUCCEEDED, FAILED, LOST, REJECTED, CANCELLED, or "
            "live for the first three; repeat it for several.",
        ),
    ] = None,
    job_queue: Annotated[str | None, typer.Option("--job-queue", metavar="NAME")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME")] = None,
    job_definition: Annotated[str | None, typer.Option("--job-definition", metavar="NAME")] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Request ids only, one per line.")] = False,
    url: UrlOption = URL_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line.")] = False,
) -> None:
    with _told():
        from controller.adapters.ops_client import OpsClient
        from controller.core.request_text import head_of_list, line_of_list

        given = {"job_queue": job_queue, "tenant": tenant, "job_definition": job_definition}
        query = {name: [value] for name, value in given.items() if value is not None}
        found = OpsClient(url).requests({**query, "state": state or []})
        first = list(itertools.islice(found, 1))  # what is wrong is told alone, without the head
        if not (ids or as_json):
            typer.echo(head_of_list())
        for each in itertools.chain(first, found):
            typer.echo(each["request_id"] if ids else _one_line(each) if as_json else line_of_list(each))


@cli.command(help=_DEMO, short_help="Show the controller at work on a simulated AWS.")
def demo(
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="How many messages to send.")] = 300,
    keep: Annotated[
        bool, typer.Option("--keep", help="Then stay, for messages of your own and a look at /metrics, until Ctrl-C.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same messages.")] = 1,
) -> None:
    with _told():
        from controller.demo.main import run_demo

        raise typer.Exit(run_demo(requests=requests, keep=keep, seed=seed))


def _settings(config: Path | None, queue_urls: Sequence[str] | None, *, is_consuming: bool = True) -> Settings:
    from controller.adapters.batch_model import submit_job_shape
    from controller.config import load_settings

    return load_settings(
        config,
        queue_urls=queue_urls or (),
        environ=os.environ,
        submit_job=submit_job_shape,
        is_consuming=is_consuming,
    )


def _one_line(record: Mapping[str, Any]) -> str:
    return escaped(json.dumps(record, ensure_ascii=False))


def _event_schemas() -> dict[str, Any]:
    from controller.core.events import CATALOGUE, json_schema

    return {name: json_schema(spec) for name, spec in CATALOGUE.items()}


def _message_schema() -> dict[str, Any]:
    from controller.adapters.batch_model import submit_job_shape
    from controller.core.request_schema import message_schema

    return dict(message_schema(submit_job_shape()))


# --- errors -------------------------------------------------------------------------------------------


def exit_code_of(error: Exception) -> int:
    """1 for trouble of the machine (locked, unwritable, in use), 2 for a configuration that can't work."""
    if isinstance(error, StoreUnwritable):
        return EXIT_FAILED
    return EXIT_MISCONFIGURED if isinstance(error, (Misconfigured, StoreMismatch, BadCredentials)) else EXIT_FAILED


@contextmanager
def _told() -> Iterator[None]:
    """End in one clear message instead of a traceback."""
    try:
        yield
    except BrokenPipeError:
        # The reader of our output (head, a pager) has had enough. Nothing may be flushed to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_FAILED) from None
    except (ControllerError, OSError) as error:
        for line in str(error).split("\n"):
            typer.echo(f"{PROGRAM}: {escaped(line)}", err=True)
        raise typer.Exit(exit_code_of(error)) from None


_TAKE_A_VALUE: Final = ("--config", "-c", "--queue-url")
_QUEUE_URLS: Final = "BATCH_CONTROLLER_INTAKE__QUEUE_URLS"


def with_command(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The command first, ``run`` if none is given and something says what to consume.

    Options may stand before the command: ``--config FILE check-config``.
    """
    if not arguments:
        return ["run"] if environ.get(_QUEUE_URLS) else []
    if list(arguments) == ["--version"]:
        return ["version"]
    name = arguments[0].partition("=")[0]
    if name not in _TAKE_A_VALUE and not name.startswith("-c"):
        return list(arguments)
    commands = {
        each.name or each.callback.__name__.replace("_", "-") for each in cli.registered_commands if each.callback
    }
    for index, argument in enumerate(arguments):
        if argument in commands and arguments[index - 1] not in _TAKE_A_VALUE:
            return [argument, *arguments[:index], *arguments[index + 1 :]]
    return ["run", *arguments]


def _leave_on(number: int, exit_code: int) -> None:
    """End the process at this signal, as long as nothing is open that wants closing.

    Not by an exception: the handler runs between any two steps of the interpreter, and what it raises is swallowed
    where a finalizer or the callback of a weak reference runs, as in every import, and comes out as another error where
    a class is being built.
    """
    signal.signal(number, lambda *_: os._exit(exit_code))


def main() -> None:
    """Entry point of ``batch-controller`` and ``python -m controller``."""
    # The kernel does not deliver a signal to process 1 of a container unless it is asked for. Until the controller
    # itself listens, a pod that is deleted while it starts would be waited for until its grace time is over.
    # Loading takes a good part of a second; ``controller.app`` takes over.
    arguments = with_command(sys.argv[1:], os.environ)
    if arguments[:1] == ["run"]:
        _leave_on(signal.SIGTERM, 0)  # nothing is drained, as nothing was begun
        _leave_on(signal.SIGINT, 0)
    else:
        _leave_on(signal.SIGTERM, 128 + signal.SIGTERM)
    cli(arguments, prog_name=PROGRAM)


if __name__ == "__main__":
    main()
