"""Runs Python code really as another user, also where that user may not enter the directory of this Python.

Started as root: imports what the code will need, gives up root for good, then runs the code.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PROJECT = Path(__file__).parents[2]
_PRELOADED = ("hashlib", "json", "msgspec", "socket", "rich.console", "rich.table", "encodings.idna")
_PRELOADED += ("concurrent.futures.thread", "sqlite3", "xxhash", "pantry.model.dimensions")


def start_as(
    uid: int, code: str, *words: str, environment: dict[str, str] | None = None, groups: Sequence[int] = ()
) -> subprocess.Popen[str]:
    """Start ``code`` with ``sys.argv[1:] == words`` as user and group ``uid``, in no other groups than those named."""
    who = ",".join(map(str, (uid, *groups)))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.servers.other_user", who, code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_PROJECT,
        env={**os.environ, "HOME": "/nonexistent", **(environment or {})},
    )


def run_as(
    uid: int, code: str, *words: str, environment: dict[str, str] | None = None, groups: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` to its end, as `start_as`."""
    process = start_as(uid, code, *words, environment=environment, groups=groups)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


RUN_COMMAND = "import sys; from pantry.client.cli.main import main; sys.argv[0] = 'pantry'; sys.exit(main())"
"""Code that runs the ``pantry`` command with the words given."""


def _become(arguments: Sequence[str]) -> None:
    (uid, *groups), code, words = map(int, arguments[0].split(",")), arguments[1], list(arguments[2:])
    import pantry.client

    for name in _PRELOADED:
        importlib.import_module(name)
    for package in ("connection", "butler", "bundles", "cli", "exports", "staging"):
        path = [str(Path(pantry.client.__file__).parent / package)]
        for module in pkgutil.walk_packages(path, f"pantry.client.{package}."):
            importlib.import_module(module.name)
    importlib.import_module("pantry.client.formatters.plain")
    os.chdir("/")
    os.setgroups(groups)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    sys.argv = ["-c", *words]
    exec(compile(code, "<as another user>", "exec"), {"__name__": "__main__"})  # noqa: S102 - the tests' own code


if __name__ == "__main__":
    _become(sys.argv[1:])
