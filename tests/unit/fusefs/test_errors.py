from __future__ import annotations

import errno
import logging

import pytest
import trio

from pantry import errors
from pantry.fusefs.errors import ERRNO, errno_of


def test_every_error_has_its_errno(caplog: pytest.LogCaptureFixture) -> None:
    for error, name in (
        (errors.DatasetNotFoundError("x"), "ENOENT"),
        (errors.RepositoryNotFoundError("x"), "ENOENT"),
        (errors.PermissionDeniedError("x"), "EACCES"),
        (errors.LimitExceededError("x"), "EBUSY"),
        (errors.CacheFullError("x"), "ENOSPC"),
        (errors.TransientBackendError("x"), "EIO"),
        (errors.IntegrityError("x"), "EBADMSG"),
        (errors.DaemonUnavailableError("x"), "EHOSTDOWN"),
        (errors.ProtocolError("x"), "EPROTO"),
        (trio.TooSlowError(), "ETIMEDOUT"),
        (OSError(errno.EMFILE, "x"), "EMFILE"),
    ):
        assert errno.errorcode[errno_of(error, "read")] == name
    assert not {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOTCONN} & set(ERRNO.values())
    assert "Traceback" not in caplog.text


def test_what_nobody_expected_is_eio_and_seen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert errno_of(ZeroDivisionError("odd"), "read") == errno.EIO
        assert errno_of(errors.PantryError("strange"), "open") == errno.EIO
    assert "read failed unexpectedly" in caplog.text
    assert "ZeroDivisionError: odd" in caplog.text
    assert "strange" in caplog.text


def test_what_is_asked_for_by_mistake_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    errno_of(errors.DatasetNotFoundError("x"), "lookup")
    errno_of(errors.PermissionDeniedError("x"), "open")
    assert not caplog.records
