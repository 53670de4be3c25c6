"""Worker processes: one line of JSON in, one out. Standard library only, since the peer's Python runs it too."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY_ROOT = Path(__file__).resolve().parents[1]
_ANSWER_TIMEOUT_S = 300.0


class WorkerError(RuntimeError):
    """A command failed in the worker; the message has its traceback."""


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Answer commands from stdin until it ends. What commands print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"ok": commands[asked["do"]](**asked["with"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Worker:
    """One worker process; a context manager that ends it.

    Parameters
    ----------
    argv : sequence of str
        A program that calls `serve`.
    env : mapping, optional
        Its whole environment.
    log : Path
        Where its stderr goes.
    """

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=REPOSITORY_ROOT,
                env=env,
                start_new_session=True,
            )

    def send(self, command: str, **arguments: Any) -> None:
        """Send a command; `receive` waits for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, "with": arguments}) + "\n")
        self._process.stdin.flush()

    def receive(self, timeout_s: float = _ANSWER_TIMEOUT_S) -> Any:
        """Return the answer to the oldest command without one."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise WorkerError(f"{' '.join(self.argv)}: no answer within {timeout_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{' '.join(self.argv)}: ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{' '.join(self.argv)}:\n{answer['error']}")
        return answer["ok"]

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send a command and wait for the answer."""
        self.send(command, **arguments)
        return self.receive()

    def close(self) -> None:
        """End the process: by the end of its input, by force after 5 s."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
