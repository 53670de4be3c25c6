"""What the service's answers mean: error codes, versions, ranges. Pure functions, no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pantry.backends.contract import ObjectStat, check_version
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectNotFoundError,
    TransientBackendError,
)


class PreconditionError(BackendError):
    """A condition of the request did not hold; the operation says what that means."""


class ConflictAnswerError(TransientBackendError):
    """Another request for the same key was under way; nobody knows yet which one wins."""


class NotImplementedAnswerError(BackendError):
    """The service does not know this kind of request."""


_NO_SUCH_OBJECT = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "NotFound", "404"})
_NO_ACCESS = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "Unauthorized",
        "401",
        "403",
    }
)
_TRANSIENT = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "InvalidRange",  # shorter than it was when the caller asked for its size
        "416",
    }
)
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge", "507"})

_NOT_IMPLEMENTED = 501
_NO_ROOM = 507


def translated(code: str, status: int, key: str) -> BackendError:
    """Make the error for an answer with S3 error ``code`` and HTTP ``status``."""
    said = f"S3 answered {code} for {key!r}"
    if code == "NoSuchBucket":
        return BackendError(
            f"the bucket of {key!r} does not exist", hint="Check the bucket's name and the endpoint_url.", key=key
        )
    if code in _NO_SUCH_OBJECT:
        return ObjectNotFoundError(f"no object {key!r}", key=key)
    if code in _NO_ACCESS:
        return BackendAccessError(
            said,
            hint="Check the credentials of this storage root (access_key_id and secret_access_key, or profile and "
            "credentials_file) and what they permit, listing included.",
            key=key,
        )
    if code in ("PreconditionFailed", "412"):
        return PreconditionError(said, key=key)
    if code in ("ConditionalRequestConflict", "409"):
        return ConflictAnswerError(said, key=key)
    if code in ("NotImplemented", "501") or status == _NOT_IMPLEMENTED:
        return NotImplementedAnswerError(said, key=key)
    if code in _FULL or status == _NO_ROOM:
        return BackendError(said, hint="The storage service has no room; ask who runs it.", key=key)
    if code in _TRANSIENT or status >= 500 or status in (408, 429):
        return TransientBackendError(said, key=key)
    return BackendError(said, key=key)


def described(key: str, answer: Mapping[str, Any], size_bytes: int) -> ObjectStat:
    """Describe an object from the answer to a HEAD, a GET or from one entry of a listing."""
    # HTTP dates have whole seconds, listings fractions: cut to what both have.
    seconds = int(answer["LastModified"].timestamp())
    return ObjectStat(
        key=key,
        size_bytes=size_bytes,
        version=_version(answer.get("ETag"), seconds, size_bytes),
        modified_ns=seconds * 1_000_000_000,
    )


def _version(etag: str | None, seconds: int, size_bytes: int) -> str:
    # Some services leave the quotes out in some answers: a version never has them.
    bare = etag.strip('"') if etag else ""
    return bare or f"time-{seconds:x}-{size_bytes:x}"


def is_strong_etag(version: str) -> bool:
    """Whether ``version`` may be sent in If-Match."""
    return not version.startswith(("time-", "W/"))


def check_range(key: str, answer: Mapping[str, Any], start: int, stop: int, if_version: str | None) -> str:
    """Check that the answer is what was asked for, before its body is read.

    Returns
    -------
    str
        The version of the object that the body is of.

    Raises
    ------
    ObjectChangedError
        If that is not ``if_version``.
    TransientBackendError
        If the object ends before ``stop``.
    BackendError
        If the service ignored the range.
    """
    length = int(answer["ContentLength"])
    given, slash, total = answer.get("ContentRange", "").rpartition("/")
    size_bytes = int(total) if slash and total.isdigit() else length
    version = described(key, answer, size_bytes).version
    check_version(key, version, if_version)
    if given and not given.startswith(f"bytes {start}-"):
        raise BackendError(f"the service answered another range of {key!r} than {start}:{stop}", key=key)
    if not given and (start != 0 or length > stop):
        raise BackendError(f"the service ignored the byte range asked of {key!r}", key=key)
    if length != stop - start:
        raise TransientBackendError(f"{key!r} gave {length} bytes of {stop - start} from offset {start}", key=key)
    return version
