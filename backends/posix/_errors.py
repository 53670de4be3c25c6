"""Errors of the operating system become `BackendError`, here and nowhere else in this package."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pantry.backends.contract import SinkError
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)

STALE = frozenset({errno.ESTALE, errno.ENOTCONN})
"""The mounted file system went away and may have come back: the root must be opened again."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_TRANSIENT = STALE | {
    errno.EIO,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EREMOTEIO,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENOMEM,
    errno.ENFILE,
    errno.EMFILE,
}
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_OUTSIDE = frozenset({errno.EXDEV, errno.ELOOP})


@contextmanager
def translate_os_errors(key: str, *, writing: bool = False) -> Iterator[None]:
    """Turn an `OSError` into the `BackendError` that says whose fault it is."""
    try:
        yield
    except SinkError:
        raise
    except OSError as exc:
        raise _translated(exc, key, writing=writing) from exc


def _translated(exc: OSError, key: str, *, writing: bool) -> BackendError:
    code = exc.errno or 0
    reason = exc.strerror or str(exc)
    if code in FULL:
        return BackendError(
            f"no room for {key!r}: {reason}", hint="Free space or raise the quota of this file system.", key=key
        )
    if code in _TRANSIENT:
        return TransientBackendError(f"the file system failed at {key!r}: {reason}", key=key)
    if code in _OUTSIDE:
        return BackendAccessError(
            f"{key!r} leads out of the storage root through a symbolic link",
            hint="Only links that belong to root, the daemon or the owner of the storage root may point elsewhere.",
            key=key,
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BackendAccessError(
            f"the daemon may not {'write' if writing else 'read'} {key!r}: {reason}",
            hint="Give the daemon's Unix user access to this directory, or mount it writable.",
            key=key,
        )
    if code == errno.ENAMETOOLONG:
        return BackendError(f"{key[:80]!r}… is too long a name for this file system", key=key)
    if writing:
        if code == errno.EEXIST:
            return ObjectExistsError(f"{key!r} exists already", key=key)
        if code == errno.ENOTDIR:
            return BackendError(
                f"{key!r} cannot be written: part of its path is a file",
                hint="On a file system an object cannot lie below another object.",
                key=key,
            )
    elif code in _MISSING:
        return ObjectNotFoundError(f"no object {key!r}", key=key)
    return BackendError(f"the file system failed at {key!r}: {reason}", key=key)
