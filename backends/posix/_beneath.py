"""Opening paths below a directory descriptor, and never outside of it.

`openat2` with RESOLVE_BENEATH lets the kernel refuse every way out (``..``, absolute and magic
links); on kernels before 5.6 the path is walked component by component without following links.
"""

from __future__ import annotations

import ctypes
import errno
import os

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2
_RACE_RETRIES = 64

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]


def _openat2(dir_fd: int, path: str, flags: int) -> int:
    how = _OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    encoded = os.fsencode(path)
    for _ in range(_RACE_RETRIES):
        fd: int = _syscall(_SYS_OPENAT2, dir_fd, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        # EAGAIN: something on the way was renamed meanwhile, and the kernel cannot prove "beneath".
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), path)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def _kernel_has_openat2() -> bool:
    try:
        os.close(_openat2(_AT_FDCWD, ".", DIRECTORY))
    except OSError:
        return False
    return True


HAVE_OPENAT2 = _kernel_has_openat2()


def open_beneath(dir_fd: int, path: str, flags: int) -> int:
    """Open the relative ``path`` below ``dir_fd``; symbolic links are followed only where they stay below.

    Raises
    ------
    OSError
        EXDEV if the path leads out of ``dir_fd``. Without `openat2`, ELOOP or ENOTDIR for any link.
    """
    if HAVE_OPENAT2:
        return _openat2(dir_fd, path, flags | os.O_CLOEXEC)
    return _walk(dir_fd, path, flags | os.O_CLOEXEC)


def _walk(dir_fd: int, path: str, flags: int) -> int:
    *parents, name = path.split("/")
    if ".." in parents or name == "..":
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    current = os.dup(dir_fd)
    try:
        for part in parents:
            following = os.open(part, DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = following
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=current)
    finally:
        os.close(current)


def rename_exclusive(source: str, target: str, *, dir_fd: int) -> None:
    """Rename within one directory, never replacing (renameat2 with RENAME_NOREPLACE).

    Raises
    ------
    OSError
        EEXIST if the target exists; EINVAL or ENOSYS where file system or C library cannot do it.
    """
    try:
        renameat2 = _libc.renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source) from None
    result = renameat2(dir_fd, os.fsencode(source), dir_fd, os.fsencode(target), _RENAME_NOREPLACE)
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, target)


def start_writeback(fd: int) -> None:
    """Let the kernel begin to write a file's data to the disk, without waiting for it; a hint, and no more."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
