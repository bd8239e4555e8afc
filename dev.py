"""Run nox, and so any check of this project, on a machine that has just Python: `python3 dev.py [NOX ARGUMENTS]`.

The first run makes .venv and installs nox and uv into it; later ones go straight to nox.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS = ROOT / "constraints.txt"
STAMP = VENV / "made-from.sha256"


def prepare() -> None:
    """Make .venv anew, unless the one that is there was made by this Python from these constraints."""
    digest = hashlib.sha256(sys.version.encode() + CONSTRAINTS.read_bytes()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == digest:
        return
    print("dev.py: installing nox and uv into .venv", flush=True)
    venv.create(VENV, clear=True, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--constraint", str(CONSTRAINTS), "nox", "uv"], check=True)
    STAMP.write_text(digest)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 (nothing has checked it before)
        sys.exit("dev.py: Python 3.11 or later is needed")
    prepare()
    # uv trusts whom this machine trusts, as pip does, and leaves it at the Pythons that are here.
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    sys.exit(subprocess.run([PYTHON, "-m", "nox", *sys.argv[1:]], cwd=ROOT, env=environment).returncode)
