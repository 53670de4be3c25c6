"""A small file system of its own, in a file, that can be filled, frozen, broken and pulled away. Needs root."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_BALLAST = "ballast"
_TABLES_BYTES = 256 << 10


class LoopDisk:
    """A mounted loop device; a context manager that unmounts it, whatever happened.

    Parameters
    ----------
    directory : Path
        For the image, and the mount point below it.
    size_bytes : int
        Of the disk.
    inodes : int
        How many files it can hold; 0 for the usual number.
    kind : str
        ``ext4``, or ``btrfs`` or ``xfs``, which can share blocks between files but not be frozen or broken.

    Attributes
    ----------
    mount_point : Path
        Where it is mounted.
    """

    def __init__(self, directory: Path, *, size_bytes: int = 64 << 20, inodes: int = 0, kind: str = "ext4") -> None:
        self._image = directory / "disk.img"
        self.mount_point = directory / "disk"
        self._size_bytes = size_bytes
        self._inodes = inodes
        self._kind = kind

    def __enter__(self) -> Self:
        self.mount_point.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        options = ["-N", str(self._inodes)] if self._inodes else []
        if self._kind == "ext4":
            _run("mkfs.ext4", "-q", "-F", "-m", "0", *options, str(self._image))
        else:
            _run(f"mkfs.{self._kind}", "-q", "-f", str(self._image))
        self.plug_in()
        return self

    def __exit__(self, *exc_info: object) -> None:
        while os.path.ismount(self.mount_point):
            self.pull_out()
        self._image.unlink()

    def plug_in(self) -> None:
        """Mount it."""
        options = "loop,errors=remount-ro" if self._kind == "ext4" else "loop"
        _run("mount", "-o", options, str(self._image), str(self.mount_point))

    def pull_out(self) -> None:
        """Take it away although files on it are open; the loop device goes when the last of them is closed."""
        _run("umount", "-l", str(self.mount_point))

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Let somebody else take all of its space but ``leave_bytes``."""
        with (self.mount_point / _BALLAST).open("wb", buffering=0) as file:
            left = os.statvfs(self.mount_point)
            most = left.f_bavail * left.f_frsize - leave_bytes
            os.posix_fallocate(file.fileno(), 0, max(4096, most - _TABLES_BYTES))
            file.seek(0, os.SEEK_END)
            # The rest piece by piece: what the file system takes for its own tables is not known beforehand.
            with contextlib.suppress(OSError):
                while os.statvfs(self.mount_point).f_bavail * left.f_frsize > leave_bytes:
                    file.write(bytes(4096))
                    os.fsync(file.fileno())

    def fill_inodes(self) -> None:
        """Let somebody else take all of its inodes."""
        directory = self.mount_point / _BALLAST
        directory.mkdir()
        number = 0
        while os.statvfs(self.mount_point).f_favail:
            (directory / str(number)).touch()
            number += 1

    def give_back(self) -> None:
        """Undo `fill` or `fill_inodes`."""
        _run("rm", "-rf", str(self.mount_point / _BALLAST))

    def freeze(self) -> None:
        """Make it read-only at once, also under open files, as the kernel does with a disk that errs."""
        device = os.path.basename(_run("findmnt", "-n", "-o", "SOURCE", str(self.mount_point)).strip())
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def thaw(self) -> None:
        """Mend it, with all that is on it; a copy, as the old one lives on while files on it are open."""
        if os.path.ismount(self.mount_point):
            self.pull_out()
        mended = self._image.with_suffix(".mended")
        shutil.copyfile(self._image, mended)
        mended.replace(self._image)
        # 1: errors were corrected, which are what was asked for.
        _run("e2fsck", "-fy", str(self._image), good=(0, 1))
        self.plug_in()

    def break_down(self) -> None:
        """Let every access fail with EIO, as a disk that died; `replace` mends it."""
        fd = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, ctypes.c_uint32(_NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def replace(self) -> None:
        """Put a new, empty disk in its place."""
        self.pull_out()
        self._image.unlink()
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self.plug_in()


def _run(*command: str, good: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in good:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
