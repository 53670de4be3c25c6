"""Attaching repositories of the Gen3 Butler: read where they are, without conversion."""

from __future__ import annotations

import os
import posixpath
import uuid
from collections.abc import Sequence

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from pantry.backends.contract import ByteRange, ObjectBackend
from pantry.daemon.registry.gen3 import Gen3Configuration, Gen3Registry, read_configuration
from pantry.daemon.registry.operator_tables import OperatorTable
from pantry.daemon.repositories.description import RepositoryDescription
from pantry.daemon.repositories.site_index import Attachment, Registration
from pantry.errors import ConfigError, ObjectNotFoundError, RepositoryNotFoundError
from pantry.model.repository import DATA_MODEL_VERSION

CONFIGURATION_KEY = "butler.yaml"
MAX_CONFIGURATION_BYTES = 1024 * 1024


def split_configuration(where: str) -> tuple[str, str]:
    """Split the place of a ``butler.yaml`` into its directory and its name; a directory may be named alone."""
    where = where.rstrip("/")
    directory, name = posixpath.split(where)
    if posixpath.splitext(name)[1] in (".yaml", ".yml"):
        return directory, name
    return where, CONFIGURATION_KEY


async def read_gen3_configuration(backend: ObjectBackend, key: str) -> Gen3Configuration:
    """Read the ``butler.yaml`` at a backend's root.

    Raises
    ------
    RepositoryNotFoundError
        There is none.
    ConfigError
        It is none of a repository that can be attached.
    """
    place = f"{backend.location.rstrip('/')}/{key}"
    try:
        found = await backend.stat(key)
    except ObjectNotFoundError:
        raise RepositoryNotFoundError(
            f"there is no Gen3 repository at {backend.location}", hint=f"{key} is missing there"
        ) from None
    if found.size_bytes > MAX_CONFIGURATION_BYTES:
        raise ConfigError(f"{place}: longer than {MAX_CONFIGURATION_BYTES} bytes")
    fd = os.memfd_create(CONFIGURATION_KEY, os.MFD_CLOEXEC)
    try:
        await backend.read_into(key, ByteRange(0, found.size_bytes), fd, if_version=found.version)
        return read_configuration(os.pread(fd, found.size_bytes, 0), place)
    finally:
        os.close(fd)


def describe(attachment: Attachment, registration: Registration) -> RepositoryDescription:
    """Describe an attached repository as a ``pantry.yaml`` would."""
    return RepositoryDescription(
        version=DATA_MODEL_VERSION,
        uuid=attachment.uuid,
        registry=registration.registry or attachment.configuration.registry_url(registration.root),
        access=attachment.access,
        storage=registration.options,
    )


def open_gen3_registry(attachment: Attachment, tables: Sequence[OperatorTable], url: str) -> Gen3Registry:
    """Open the registry of an attached repository."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("the registry's URL is not a SQLAlchemy URL") from None
    if parsed.get_backend_name() == "sqlite" and not os.path.isabs(parsed.database or ""):
        raise ConfigError("an SQLite registry needs an absolute path", hint="give --registry sqlite:////path")
    configuration = attachment.configuration
    return Gen3Registry.attach(
        url,
        uuid=attachment.uuid,
        namespace=configuration.namespace,
        records=configuration.records,
        tables=tables,
    )


def new_uuid() -> str:
    """Give a repository that has none its own."""
    return str(uuid.uuid4())
