"""docs/tutorial.md and README.md do what they say: their blocks run in order, as a newcomer would run them.

`console` blocks have commands behind ``$`` and what they print; `python` blocks run in one interpreter, and print
what the `text` block after them has. ``...`` matches anything within a line, or any lines if it stands alone. A
block with ``file=`` is written there, with the S3 service's real address and keys; one with ``needs=fuse`` is passed
over where nothing can be mounted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.docs.tables import DOCS, ROOT
from tests.servers.seaweedfs import SeaweedServer

PAGES = [DOCS / "tutorial.md", ROOT / "README.md"]

_INTERPRETER = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(json.loads(line), "tutorial.md", "exec"), names)
        except BaseException:
            traceback.print_exc(file=printed)
    print(json.dumps(printed.getvalue()), flush=True)
"""


class Block(NamedTuple):
    """One fenced block."""

    line: int
    kind: str
    options: dict[str, str]
    text: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found = []
    for match in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        options = dict(word.split("=", 1) for word in match[2].split())
        found.append(Block(text.count("\n", 0, match.start()) + 1, match[1], options, match[3]))
    return found


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with what it prints."""
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def matches(expected: str, printed: str) -> bool:
    """Compare line by line; see the module. Spaces count as one, since columns are as wide as their content."""
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(_single_spaced(line)).replace(r"\.\.\.", ".*") + "\n"
        for line in expected.splitlines()
    )
    shown = "".join(_single_spaced(line) + "\n" for line in printed.splitlines())
    return re.fullmatch(pattern, shown) is not None


def _single_spaced(line: str) -> str:
    return re.sub(" +", " ", line).rstrip()


class Newcomer:
    """A user with a home of their own, a shell and a Python interpreter."""

    def __init__(self, home: Path, runtime: Path) -> None:
        self.home = home
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR", "PYTHONPATH") if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
        }
        self._python = subprocess.Popen(
            [sys.executable, "-c", _INTERPRETER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=home,
            env=self.environment,
        )

    def shell(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit status and all that it printed."""
        with tempfile.TemporaryFile("w+") as printed:
            # Not a pipe: a daemon that it starts might keep that open.
            done = subprocess.run(
                ["/bin/bash", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                cwd=self.home,
                env=self.environment,
                timeout=120,
                check=False,
            )
            printed.seek(0)
            return done.returncode, printed.read()

    def python(self, code: str) -> str:
        """Run code in the interpreter; return what it printed."""
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps(code) + "\n")
        self._python.stdin.flush()
        printed = json.loads(self._python.stdout.readline())
        assert isinstance(printed, str)
        return printed

    def leave(self) -> None:
        """End the interpreter, the mount and the daemon."""
        self._python.communicate()
        self.shell("mountpoint -q mnt && pantry umount mnt --lazy")
        status, answer = self.shell("pantry status --json")
        if status == 0:
            pid = json.loads(answer)["pid"]
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 30
            while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
                time.sleep(0.05)


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    directory = Path(tempfile.mkdtemp(prefix="tut-"))  # short, for the socket
    for name in ("home", "run"):
        (directory / name).mkdir(mode=0o700)
    one = Newcomer(directory / "home", directory / "run")
    try:
        yield one
    finally:
        one.leave()
        shutil.rmtree(directory)


def can_mount() -> bool:
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("fusermount3") is not None


@pytest.mark.skipif(os.path.exists("/run/pantry/pantryd.sock"), reason="this node has a daemon that would be used")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_works(page: Path, newcomer: Newcomer, seaweed: SeaweedServer) -> None:
    if "s3://tutorial/" in page.read_text():
        seaweed.bucket("tutorial")
    real = {
        "http://127.0.0.1:8333": seaweed.endpoint_url,
        "EXAMPLEKEY": seaweed.access_key,
        "EXAMPLESECRET": seaweed.secret_key,
    }
    everything = blocks(page.read_text())
    for number, block in enumerate(everything):
        where = f"{page.name}, line {block.line}"
        if block.options.get("needs") == "fuse" and not can_mount():
            continue
        if block.kind == "console":
            for command, expected in commands(block.text):
                status, printed = newcomer.shell(command)
                fails = "pantry: error:" in expected
                assert (status != 0) == fails, f"{where}: $ {command}\nexit status {status}\n{printed}"
                assert matches(expected, printed), f"{where}: $ {command}\nprinted:\n{printed}\nnot:\n{expected}"
        elif block.kind == "python":
            printed = newcomer.python(block.text)
            after = everything[number + 1] if number + 1 < len(everything) else None
            expected = after.text if after is not None and after.kind == "text" else ""
            assert matches(expected, printed), f"{where}: printed:\n{printed}\nnot:\n{expected}"
        elif "file" in block.options:
            file = newcomer.home / block.options["file"].removeprefix("~/")
            file.parent.mkdir(parents=True, exist_ok=True)
            text = block.text
            for shown, value in real.items():
                assert shown in text
                text = text.replace(shown, value)
            file.write_text(text)


def test_output_is_compared() -> None:
    assert matches("a ... c\n", "a b b c\n")
    assert matches("a\n...\nz\n", "a\nb\nc\nz\n")
    assert matches("", "")
    assert not matches("", "something\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a.c\n", "abc\n")
    assert matches("name  root\n", "name      root   \n")


def test_blocks_are_found() -> None:
    page = "# x\n\n```console needs=fuse\n$ ls\na\n$ true\n```\n\n```python\nprint(1)\n```\n"
    first, second = blocks(page)
    assert (first.line, first.kind, first.options) == (3, "console", {"needs": "fuse"})
    assert list(commands(first.text)) == [("ls", "a\n"), ("true", "")]
    assert second.text == "print(1)\n"
