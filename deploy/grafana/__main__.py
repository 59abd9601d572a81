"""``python -m deploy.grafana`` writes ``dashboards/*.json``; ``--check`` compares, and ends with 1 if one differs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import internals, overview, queue

HERE = Path(__file__).parent / "dashboards"


def texts() -> Mapping[str, str]:
    """File names and contents of all dashboards."""
    boards = {"overview": overview.build(), "queue": queue.build(), "internals": internals.build()}
    return {f"{name}.json": _text(board) for name, board in boards.items()}


def differences(directory: Path = HERE) -> list[str]:
    """Files that are not what the code makes, or that no code makes."""
    wanted = texts()
    found = {path.name: path.read_text() for path in directory.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def _text(board: Dashboard) -> str:
    made = board.build()
    for number, panel in enumerate(made.panels or [], start=1):
        panel.id_val = number
    return json.dumps(made, cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        for name in differences():
            sys.stderr.write(f"{name} differs from the code: make dashboards\n")
        return 1 if differences() else 0
    for name, text in texts().items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
