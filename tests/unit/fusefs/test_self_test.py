from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pantry.fusefs.self_test import PassthroughTest


class Device:
    """A kernel that takes the backing file, or says why not; what is read is what the test wrote to the directory."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.registered: dict[int, str] = {}

    def open_backing(self, fd: int) -> int:
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        self.registered[7] = os.pread(fd, 100, 0).decode()
        return 7

    def close_backing(self, number: int) -> None:
        del self.registered[number]


@pytest.mark.parametrize(
    ("code", "content", "said"),
    [
        (errno.EPERM, None, "Operation not permitted"),
        (errno.EOPNOTSUPP, None, "Operation not supported"),
        (0, None, "No such file"),
        (0, b"something else", "not read right"),
    ],
)
def test_what_fails_is_said_once_and_nothing_stays_registered(
    code: int, content: bytes | None, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device: Any = Device(code)
    test = PassthroughTest(device)
    if content is not None:
        (tmp_path / test.name.decode()).write_bytes(content)
    assert not test.passes(str(tmp_path))
    (record,) = caplog.records
    assert "read through this process" in record.getMessage()
    assert said in record.getMessage()
    assert not device.registered


def test_what_the_kernel_reads_right_passes(tmp_path: Path) -> None:
    device: Any = Device()
    test = PassthroughTest(device)
    (tmp_path / test.name.decode()).write_bytes(b"read by the kernel itself\n")
    assert test.passes(str(tmp_path))
    assert not device.registered
