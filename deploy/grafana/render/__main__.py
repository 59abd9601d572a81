"""``python -m deploy.grafana.render [DIRECTORY]`` writes ``docs/images/dashboard-*.png``.

``DIRECTORY`` (default: ``build/render``) keeps the installed library, the bundle and the recorded answers; recorded
answers that are there already are drawn again. Remove ``answers.json`` there for a new run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.grafana.render.record import record

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
IMAGES: Final = ROOT / "docs" / "images"
SOURCES: Final = ("package.json", "board.jsx", "bundle.mjs")
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--allow-file-access-from-files", "--virtual-time-budget=20000", "--force-device-scale-factor=1"),
)
PAGE_WIDTH: Final = 1500
ROW_PX: Final = 38


def main(arguments: list[str]) -> int:
    work = Path(arguments[0] if arguments else ROOT / "build" / "render")
    work.mkdir(parents=True, exist_ok=True)
    missing = [
        name
        for name in ("npm", "node", "prometheus", "prometheus-alertmanager", "pngquant")
        if shutil.which(name) is None
    ]
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if missing or browser is None:
        sys.stderr.write(f"missing: {', '.join([*missing, *([] if browser else ['chromium'])])}\n")
        return 1
    answers = work / "answers.json"
    if not answers.exists():
        with tempfile.TemporaryDirectory() as directory:
            record(Path(directory), answers)
    for name in SOURCES:
        shutil.copy(HERE / name, work / name)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--legacy-peer-deps"], cwd=work, check=True)
    subprocess.run(["node", "bundle.mjs", "bundle.js"], cwd=work, check=True)
    recorded = json.loads(answers.read_text())
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, board in recorded["boards"].items():
        height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) * ROW_PX + 54
        page = work / f"{name}.html"
        page.write_text(_page(name, json.dumps(recorded)))
        out = IMAGES / f"dashboard-{name}.png"
        with tempfile.TemporaryDirectory() as profile:
            command = [browser, *CHROMIUM, f"--user-data-dir={profile}", f"--window-size={PAGE_WIDTH},{height}"]
            shot = [*command, f"--screenshot={out}", page.as_uri()]
            subprocess.run(shot, check=True, timeout=120, stderr=subprocess.DEVNULL)
        # Flat colours: 256 of them are enough, and a third of the size.
        subprocess.run(["pngquant", "--force", "--ext=.png", "--quality=60-95", str(out)], check=True)
        sys.stdout.write(f"{out.relative_to(ROOT)}\n")
    return 0


def _page(name: str, recorded: str) -> str:
    data = recorded.replace("</", "<\\/")
    return (
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="bundle.css">'
        '<body style="margin:0"><div id="root"></div>'
        f"<script>window.RECORDED = {data}; window.BOARD = {json.dumps(name)};</script>"
        '<script src="bundle.js"></script></body>'
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
