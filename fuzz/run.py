"""Run fuzz targets: `python -m fuzz.run [TARGET ...] [--minutes N] [--jobs N] [--folder PATH]`.

Each target runs in a process of its own, on a corpus that grows in the folder from one run to the next. An input that
makes a target fail is kept there too, and makes the exit status 1; `--input FILE` runs a target on one input alone.

Nothing of ours is imported at the top: atheris must see the package's modules when they are imported first.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 1024  # bytes of one input
SLOWEST = 10  # seconds that one input may take


def main() -> int:
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=0.5, help="for each target (default: 0.5)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="targets at the same time (default: one a CPU)"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="where corpora and findings are kept")
    parser.add_argument("--input", type=Path, help="run the one target on this file only")
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.input is not None:
        if len(options.targets) != 1:
            parser.error("--input takes one target")
        TARGETS[options.targets[0]](options.input.read_bytes())
        print("the input does no harm")
        return 0
    waiting = list(options.targets or TARGETS)
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed = False
    while waiting or running:
        while waiting and len(running) < options.jobs:
            name = waiting.pop(0)
            running[name] = start(name, options.folder, round(options.minutes * 60))
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                failed |= report(name, options.folder, process.returncode)
        time.sleep(0.1)
    return int(failed)


def start(name: str, folder: Path, seconds: int) -> subprocess.Popen[bytes]:
    """Start one target's process, whose output goes into a file."""
    from fuzz.seeds import seeds

    corpus, found = folder / name / "corpus", folder / name / "findings"
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in seeds(name):
        if len(seed) <= LARGEST:
            (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={LARGEST}",
        f"-timeout={SLOWEST}",
        f"-artifact_prefix={found}/",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    with (folder / name / "log").open("wb") as log:
        command = [sys.executable, "-m", "fuzz.run", f"--fuzz={name}", str(corpus), *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)


def report(name: str, folder: Path, status: int) -> bool:
    """Print how a target fared; tell whether it failed."""
    text = (folder / name / "log").read_text(encoding="utf-8", errors="replace")
    counts = dict(re.findall(r"^stat::(\w+):\s+(\d+)$", text, re.MULTILINE))
    executions = int(counts.get("number_of_executed_units", 0))
    speed = int(counts.get("average_exec_per_sec", 0))
    verdict = "nothing found" if status == 0 else f"FAILED with status {status}"
    print(f"{name:15} {executions:12,} executions {speed:9,}/s   {verdict}", flush=True)
    if status:
        print("\n".join(text.splitlines()[-40:]), flush=True)
    return status != 0


def fuzz(name: str, arguments: Sequence[str]) -> None:
    """Hand one target over to atheris, which watches the package's code and ends the process."""
    import atheris

    with atheris.instrument_imports(include=["hubproto_core"]):
        from fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("--fuzz="):
        fuzz(sys.argv[1].removeprefix("--fuzz="), sys.argv[2:])
    else:
        sys.exit(main())
