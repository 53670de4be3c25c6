"""Run Python code where no socket can be made: the kernel refuses the system call (seccomp), whoever asks.

No root is needed. Beside that there is no configuration, no socket of a daemon, and an empty home.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_REFUSE_SOCKETS = """
import ctypes, errno, platform, socket, struct
_ARCH, _SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}[platform.machine()]
def _op(code, k, jt=0, jf=0):
    return struct.pack("=HBBI", code, jt, jf, k)
_program = b"".join((
    _op(0x20, 4), _op(0x15, _ARCH, 1, 0), _op(0x06, 0),  # another architecture: killed
    _op(0x20, 0), _op(0x15, _SOCKET, 0, 1), _op(0x06, 0x00050000 | errno.EPERM), _op(0x06, 0x7FFF0000),
))
_buffer = ctypes.create_string_buffer(_program)
class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]
_libc = ctypes.CDLL(None, use_errno=True)
assert _libc.prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
_filter = _Filter(len(_program) // 8, ctypes.cast(_buffer, ctypes.c_void_p))
assert _libc.prctl(22, 2, ctypes.byref(_filter), 0, 0) == 0, ctypes.get_errno()
for _family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    try:
        socket.socket(_family)
    except PermissionError:
        continue
    raise AssertionError("a socket could be made")
"""


def run_isolated(code: str, *words: str, home: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run code that cannot make a socket, with ``words`` in ``sys.argv[1:]``."""
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", _REFUSE_SOCKETS + code, *words],
        env={"HOME": str(home), "PANTRY_SOCKET": str(home / "no-socket"), "PATH": "/nonexistent"},
        cwd=home,
        capture_output=True,
        text=True,
        check=check,
        timeout=120,
    )
