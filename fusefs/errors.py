"""From errors to errno: the one table."""

from __future__ import annotations

import errno
import logging

import trio

from pantry.errors import (
    BackendError,
    CacheFullError,
    ConflictError,
    DaemonUnavailableError,
    IntegrityError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    PantryError,
    PermissionDeniedError,
    ProtocolError,
)

logger = logging.getLogger(__name__)

ERRNO: dict[type[BaseException], int] = {
    NotFoundError: errno.ENOENT,
    PermissionDeniedError: errno.EACCES,
    InvalidRequestError: errno.EINVAL,
    ConflictError: errno.EEXIST,
    # Not EAGAIN: programs take that for a descriptor that is not ready, and Python's read returns None.
    LimitExceededError: errno.EBUSY,
    CacheFullError: errno.ENOSPC,
    BackendError: errno.EIO,
    # What ext4 and xfs say of a bad checksum.
    IntegrityError: errno.EBADMSG,
    # What network file systems say of a server that is down; ENOTCONN would look like a dead mount.
    DaemonUnavailableError: errno.EHOSTDOWN,
    ProtocolError: errno.EPROTO,
    trio.TooSlowError: errno.ETIMEDOUT,
}
_EXPECTED = (NotFoundError, PermissionDeniedError)


def errno_of(error: Exception, doing: str) -> int:
    """Choose the errno for an error, and log what a user cannot learn from it.

    Parameters
    ----------
    error : Exception
        Any; what is not in `ERRNO` is a defect, gives EIO and is logged with its traceback.
    doing : str
        What was asked for, for the log.
    """
    if isinstance(error, OSError) and error.errno:
        logger.warning("%s: %s", doing, error)
        return error.errno
    for kind in type(error).__mro__:
        if kind in ERRNO:
            if not isinstance(error, _EXPECTED):
                logger.warning("%s: %s", doing, error.message if isinstance(error, PantryError) else repr(error))
            return ERRNO[kind]
    if isinstance(error, PantryError):
        logger.error("%s: %s: %s", doing, type(error).__name__, error.message)
    else:
        logger.error("%s failed unexpectedly", doing, exc_info=error)
    return errno.EIO
