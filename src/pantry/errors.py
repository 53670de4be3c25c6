"""The one error tree.

Every failure that Pantry raises on purpose is a `PantryError`. Each class has a stable `code`
that crosses the wire, so that an error raised in the daemon is raised as the same class in the
client (DESIGN section 5). Names follow ``lsst.daf.butler`` where the meaning is the same.
"""

from __future__ import annotations

from typing import ClassVar

FieldValue = str | int | float | bool | None


class PantryError(Exception):
    """Base of all errors that Pantry raises on purpose.

    Parameters
    ----------
    message : str
        What failed, and where.
    hint : str, optional
        What the reader can do about it.
    **fields : str, int, float, bool or None
        Details for programs; never secrets.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", **fields: FieldValue) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields: dict[str, FieldValue] = fields

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.code, self.message, self.hint, self.fields)


# -- asked wrongly ----------------------------------------------------------------------------


class InvalidRequestError(PantryError):
    """The request itself makes no sense; the caller must change it."""

    code = "invalid_request"


class ConfigError(InvalidRequestError):
    """A configuration file is wrong; the message gives file and line."""

    code = "config"


class InvalidQueryError(InvalidRequestError):
    """A query expression does not parse or names what does not exist."""

    code = "invalid_query"


class DimensionNameError(InvalidRequestError):
    """A data id has an unknown dimension, or lacks a required one."""

    code = "dimension_name"


class DataIdValueError(InvalidRequestError):
    """A data id has a value of the wrong type, or one without a dimension record."""

    code = "data_id_value"


class InconsistentDataIdError(DataIdValueError):
    """The values of a data id contradict the dimension records."""

    code = "inconsistent_data_id"


class DatasetTypeError(InvalidRequestError):
    """A dataset type is defined inconsistently, or used for what it does not fit."""

    code = "dataset_type"


class CollectionTypeError(InvalidRequestError):
    """The operation does not apply to a collection of this type."""

    code = "collection_type"


class FormatterError(InvalidRequestError):
    """A Python object cannot be written in the format of its dataset type, or a file not be read."""

    code = "formatter"


# -- not there -------------------------------------------------------------------------------


class NotFoundError(PantryError):
    """Something named does not exist."""

    code = "not_found"


class DatasetNotFoundError(NotFoundError):
    """No dataset has this data id, dataset type and these collections, or this id."""

    code = "dataset_not_found"


class MissingDatasetTypeError(NotFoundError):
    """The dataset type is not registered."""

    code = "missing_dataset_type"


class MissingCollectionError(NotFoundError):
    """The collection does not exist."""

    code = "missing_collection"


class RepositoryNotFoundError(NotFoundError):
    """No repository is registered by this name."""

    code = "repository_not_found"


class NotCachedError(NotFoundError):
    """The file is not complete in the cache, and was asked for only if it is."""

    code = "not_cached"


# -- already there ---------------------------------------------------------------------------


class ConflictError(PantryError):
    """What should be made exists already (DMS-MWBT-REQ-0074: no clobber)."""

    code = "conflict"


class DatasetExistsError(ConflictError):
    """The run already has a dataset of this type and data id."""

    code = "dataset_exists"


class ConflictingDefinitionError(ConflictError):
    """Something of this name is already defined differently."""

    code = "conflicting_definition"


# -- not allowed, too much -------------------------------------------------------------------


class PermissionDeniedError(PantryError):
    """The repository's rules do not allow this user to do that."""

    code = "permission_denied"


class LimitExceededError(PantryError):
    """A limit that protects other users was reached."""

    code = "limit_exceeded"


class CacheFullError(LimitExceededError):
    """The cache's quota does not hold the object, even after eviction."""

    code = "cache_full"


class CacheDiskError(LimitExceededError):
    """The disk of the node's cache is full, fails or is gone; what can be had is read uncached."""

    code = "cache_disk"


class StaleHandleError(LimitExceededError):
    """A file that is open in part cannot get more bytes on the cache's disk; opening it anew helps.

    The client library does so by itself.
    """

    code = "stale_handle"


# -- elsewhere -------------------------------------------------------------------------------


class BackendError(PantryError):
    """A storage service failed; retrying the same request will not help."""

    code = "backend"


class TransientBackendError(BackendError):
    """A storage service failed in a way that may pass; retried before it is raised."""

    code = "backend_transient"


class OriginUnavailableError(TransientBackendError):
    """The storage failed several times and is left alone for a while, or this node works offline."""

    code = "origin_unavailable"


class ObjectNotFoundError(BackendError):
    """The storage service has no object by this key."""

    code = "object_not_found"


class ObjectExistsError(BackendError):
    """A conditional write found an object by this key."""

    code = "object_exists"


class ObjectChangedError(BackendError):
    """The object is no longer the version that was asked for."""

    code = "object_changed"


class BackendAccessError(BackendError):
    """The storage service refused the daemon's credentials."""

    code = "backend_access"


class PublishError(BackendError):
    """A web service refused what was to be published there, or the dataset does not fit what it wants."""

    code = "publish"


class IntegrityError(PantryError):
    """Bytes are not those that were registered; they are not handed out."""

    code = "integrity"


# -- between client and daemon ---------------------------------------------------------------


class ProtocolError(PantryError):
    """The peer on the socket broke the protocol."""

    code = "protocol"


class DaemonUnavailableError(PantryError):
    """No daemon answers on the socket."""

    code = "daemon_unavailable"


class InternalError(PantryError):
    """A defect in Pantry; the daemon's log has the details."""

    code = "internal"


def _tree(cls: type[PantryError]) -> dict[str, type[PantryError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[PantryError]] = _tree(PantryError)
"""Every error class by its stable wire code."""


def _rebuild(code: str, message: str, hint: str, fields: dict[str, FieldValue]) -> PantryError:
    return from_wire(code, message, hint, fields)


def from_wire(code: str, message: str, hint: str, fields: dict[str, FieldValue]) -> PantryError:
    """Make the error that crossed the wire; an unknown code gives the base class."""
    error = BY_CODE.get(code, PantryError)(message, hint=hint)
    error.fields = dict(fields)
    return error
