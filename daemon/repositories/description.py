"""``pantry.yaml`` at a repository's root: its version, registry, storage and rules."""

from __future__ import annotations

import os
import re

import msgspec
import yaml

from pantry.backends.contract import ByteRange, ObjectBackend
from pantry.daemon.repositories.access import AccessRules
from pantry.errors import ConfigError, ObjectNotFoundError, RepositoryNotFoundError
from pantry.model.formats import NO_FORMATS, Formats, builtin_options, check_formats
from pantry.model.loading import load_yaml
from pantry.model.repository import DATA_MODEL_VERSION
from pantry.model.templates import TemplateLike, Templates

DESCRIPTION_KEY = "pantry.yaml"
MAX_DESCRIPTION_BYTES = 1024 * 1024
IN_STATE_DIRECTORY = "state"
"""Value of `RepositoryDescription.registry` for SQLite in the daemon's state directory."""


_REALM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RepositoryDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What ``pantry.yaml`` says; all paths in it are relative to the root.

    Attributes
    ----------
    version : int
        Of the data model.
    uuid : str
        Made at creation, never changed.
    registry : str
        SQLAlchemy URL; ``sqlite:///FILE`` is relative to the root; ``state`` means the state
        directory of the daemon that made it.
    realm : str
        Content is shared in the cache within a realm; empty for a realm of its own.
    storage : dict
        Options of the storage backend; no secrets.
    access : AccessRules
        Who may read and write.
    formats : Formats
        What is stored in which format, and read as what.
    templates : dict of str to str or TemplateRule
        Where new files go: by the name of the dataset type, or a pattern, a template of their paths.
    subset_of : str
        UUID of the repository that it was made from a part of, of a chain those of all; else empty.
    view : bool
        Whether the files of that part have stayed where they are.
    """

    version: int
    uuid: str
    registry: str
    access: AccessRules
    realm: str = ""
    storage: dict[str, str | int | float | bool] = {}
    formats: Formats = NO_FORMATS
    templates: dict[str, TemplateLike] = {}
    subset_of: str = ""
    view: bool = False


def dump_description(description: RepositoryDescription) -> bytes:
    """Write a description as YAML."""
    body = yaml.safe_dump(msgspec.to_builtins(description), sort_keys=False, allow_unicode=True)
    return f"# A Pantry data repository. Paths are relative to this directory.\n{body}".encode()


async def read_description(backend: ObjectBackend) -> RepositoryDescription:
    """Read the description at a backend's root.

    Raises
    ------
    RepositoryNotFoundError
        There is no ``pantry.yaml``.
    ConfigError
        It is wrong, or of a newer data model than this software knows.
    """
    place = f"{backend.location.rstrip('/')}/{DESCRIPTION_KEY}"
    try:
        found = await backend.stat(DESCRIPTION_KEY)
    except ObjectNotFoundError:
        raise RepositoryNotFoundError(
            f"there is no Pantry repository at {backend.location}", hint=f"{DESCRIPTION_KEY} is missing there"
        ) from None
    if found.size_bytes > MAX_DESCRIPTION_BYTES:
        raise ConfigError(f"{place}: longer than {MAX_DESCRIPTION_BYTES} bytes")
    fd = os.memfd_create("pantry.yaml", os.MFD_CLOEXEC)
    try:
        await backend.read_into(DESCRIPTION_KEY, ByteRange(0, found.size_bytes), fd, if_version=found.version)
        text = os.pread(fd, found.size_bytes, 0).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{place}: not UTF-8 text") from None
    finally:
        os.close(fd)
    try:
        version = yaml.safe_load(text).get("version")
    except (yaml.YAMLError, AttributeError):
        version = None
    # Before the keys, of which a newer version may have others.
    if isinstance(version, int) and version > DATA_MODEL_VERSION:
        raise ConfigError(
            f"{place}: data model version {version} is newer than this software's {DATA_MODEL_VERSION}",
            hint="update Pantry on this node",
        )
    description = load_yaml(text, RepositoryDescription, source=place)
    # Both become names of directories in the cache.
    for name, value in (("uuid", description.uuid), ("realm", description.realm or description.uuid)):
        if not _REALM.fullmatch(value):
            raise ConfigError(f"{place}: {name}: must be letters, digits, '.', '_' and '-', at most 64")
    check_repository_formats(description.formats, f"{place}: formats")
    Templates(description.templates, f"{place}: templates")
    return description


def check_repository_formats(formats: Formats, source: str) -> None:
    """Refuse formats that cannot be; formatters of other packages are the clients', and need not be installed here."""
    check_formats(formats, source=source, options_of=lambda name: builtin_options(name) or dict)
