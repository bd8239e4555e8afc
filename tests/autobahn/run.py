"""Runs the Autobahn test suite's fuzzing client against the echo server on each adapter.

`python -m tests.autobahn.run PYTHON SUITE [CASES ...]`: PYTHON is a CPython 2.7, SUITE the folder in which
requirements.txt is installed, CASES are patterns like "7.*", or "all". If there are none, they are all but those of the
sections 12 and 13, about compression, of which three of each kind are run: small messages, larger and fragmented ones.
Prints how many cases of each section behaved how, and ends with status 1 if one failed. The suite's own report for each
adapter, with the bytes of every case, is in SUITE/reports.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
ADAPTERS = ("trio", "asyncio")
SECTIONS = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1, "12": 90, "13": 126}
"""How many cases there are."""

BY_DEFAULT = {f"{section}.*": count for section, count in SECTIONS.items() if int(section) < 12}
COMPRESSED = [
    f"{section}.{kind}.{case}"
    for section, kinds in ((12, 5), (13, 7))
    for kind in range(1, kinds + 1)
    for case in (1, 4, 11)
]
BY_DEFAULT |= dict.fromkeys(COMPRESSED, 1)  # by name: "12.*.1" would be 12.1.10, too
"""How many cases there are of each pattern."""

GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")
LIMIT = 1800.0  # seconds for all cases on one adapter; but where there are none it never ends


def run(adapter: str, python: Path, suite: Path, cases: list[str]) -> dict[str, tuple[str, str]]:
    """Run these cases, and return by case how the server behaved, and how when it closed."""
    reports = suite / "reports" / adapter
    shutil.rmtree(reports, ignore_errors=True)
    with ExitStack() as ends, tempfile.TemporaryFile("w+") as complaints:
        echo = subprocess.Popen(
            [sys.executable, "-m", "tests.autobahn.echo", adapter],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        ends.callback(echo.wait)
        ends.callback(echo.terminate)
        assert echo.stdout is not None
        url = echo.stdout.readline().removeprefix("listening on ").strip()
        if not url:
            sys.exit(f"the echo server did not start: {text_of(complaints)}")
        spec = suite / f"{adapter}.json"
        servers = [{"agent": adapter, "url": url}]
        what = {"cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}
        spec.write_text(json.dumps({"outdir": str(reports), "servers": servers, **what}))
        with (suite / f"{adapter}.log").open("w") as log:
            subprocess.run(
                [python, suite / "bin" / "wstest", "-m", "fuzzingclient", "-s", spec],
                env={**os.environ, "PYTHONPATH": str(suite)},
                stdout=log,
                stderr=log,
                timeout=LIMIT,
                check=True,
            )
        if echo.poll() is not None or text_of(complaints):
            sys.exit(f"the echo server on {adapter} complains: {text_of(complaints)}")
    index = json.loads((reports / "index.json").read_text()).get(adapter, {})
    return {case: (result["behavior"], result["behaviorClose"]) for case, result in index.items()}


def text_of(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip()


def tell(adapter: str, results: dict[str, tuple[str, str]]) -> list[str]:
    """Print the counts of each section; return the failed cases."""
    counts = Counter((section_of(case), behavior) for case, (behavior, _) in results.items())
    for section in SECTIONS:
        told = ", ".join(f"{count} {behavior}" for (of, behavior), count in sorted(counts.items()) if of == section)
        if told:
            print(f"{adapter}, section {section}: {told}")
    failed = [case for case, behaviors in results.items() if not set(behaviors) <= set(GOOD)]
    for case in failed:
        print(f"{adapter}, case {case}: {' / '.join(results[case])}")
    return failed


def section_of(case: str) -> str:
    return case.partition(".")[0]


def sections_of(expected: dict[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for pattern, count in expected.items():
        counts[section_of(pattern)] += count
    return counts


def main() -> None:
    python, suite, patterns = Path(sys.argv[1]), Path(sys.argv[2]).resolve(), sys.argv[3:]
    expected = None if patterns else BY_DEFAULT
    if patterns == ["all"]:
        expected = {f"{section}.*": count for section, count in SECTIONS.items()}
    failed = False
    for adapter in ADAPTERS:
        results = run(adapter, python, suite, patterns if expected is None else list(expected))
        failed = bool(tell(adapter, results)) or failed
        ran = Counter(map(section_of, results))
        if not ran if expected is None else ran != sections_of(expected):
            print(f"{adapter}: not all cases ran: {dict(ran)}")
            failed = True
    if failed:
        sys.exit(f"FAILED: see {suite / 'reports'}")


if __name__ == "__main__":
    main()
