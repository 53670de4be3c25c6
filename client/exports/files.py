"""Where the files of an export are: never outside of the directory that the user names."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from pantry.client.exports.contents import Contents
from pantry.client.exports.planning import PlannedFile
from pantry.client.formatters import formatter_is_known
from pantry.errors import InvalidRequestError
from pantry.model.datasets import DatasetType
from pantry.model.gen3_names import formatter_of


class ExportedFiles:
    """Finds files and their formatters.

    Parameters
    ----------
    contents : Contents
        The export.
    directory : str
        Absolute path below which all files are; empty if paths are keys of the repository's storage.
    mapped : Mapping
        Storage classes that the user gave, Gen3's with ours.
    """

    def __init__(self, contents: Contents, directory: str, mapped: Mapping[str, str]) -> None:
        self._contents = contents
        self._directory = directory
        self._mapped = {name for name, kind in contents.dataset_types.items() if kind.storage_class in mapped}

    def path(self, file: PlannedFile) -> str:
        """Give where a file should be.

        Raises
        ------
        ExportError
            If that is outside of the directory: an export from strangers could name any file of the user's.
        """
        given = file.path.removeprefix("file://")
        if "://" in given:
            raise self._contents.refuse(file.line, f"{file.path[:200]!r} is not in a directory", "fetch it first")
        if "\0" in given:
            raise self._contents.refuse(file.line, f"{given[:200]!r} is no path")
        if not self._directory:
            return given
        found = os.path.normpath(os.path.join(self._directory, given))
        if not found.startswith(self._directory.rstrip("/") + "/"):
            raise self._contents.refuse(
                file.line,
                f"{file.path[:200]!r} is not below {self._directory}",
                "name the directory that has all files: directory=... (--directory)",
            )
        return found

    def is_there(self, path: str) -> bool:
        """Whether there is a regular file."""
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except (OSError, ValueError):
            return False

    def formatter(self, file: PlannedFile, dataset_type: DatasetType) -> str:
        """Give the formatter that will read a file; empty for the storage class's own.

        Raises
        ------
        ExportError
            If Gen3's formatter has no equal here, and the user did not say as what to read it.
        """
        if dataset_type.name in self._mapped:
            return ""
        name = formatter_of(file.formatter, file.path)
        if not name or formatter_is_known(name):
            return name
        raise self._contents.refuse(
            file.line,
            f"the formatter {file.formatter!r} of {dataset_type.name} has no equal here: {file.path[:200]}",
            "--without-datastore imports what the registry had; --storage-class THEIRS=Bytes takes such files as bytes",
        )


def export_directory(directory: str | os.PathLike[str] | None, filename: str | None, *, in_place: bool) -> str:
    """Give the directory of an export's files: the named one, or the one that the export lies in."""
    if directory is not None:
        text = os.fspath(directory)
        if "://" in text.removeprefix("file://"):
            raise InvalidRequestError(f"{text!r} is not a directory of this host", hint="fetch the files first")
        return os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
    if in_place or filename is None:
        return "" if in_place else os.getcwd()
    return os.path.dirname(os.path.abspath(filename))
