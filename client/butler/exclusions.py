"""Lists of datasets to leave out: files for people, references for programs.

All of a list is checked here, so that every mistake is told with the line it stands in.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple, NoReturn
from uuid import UUID

from pantry.client.butler.access import RepositoryAccess
from pantry.errors import InvalidRequestError, PantryError
from pantry.model.datasets import DatasetRef
from pantry.model.dimensions import DimensionGroup, DimensionUniverse
from pantry.wire import operations as ops
from pantry.wire.operations import ExcludedDataIds, ExcludedDatasets, ListDatasetTypes
from pantry.wire.operations.exclusions import MAX_EXCLUDED

Exclude = str | os.PathLike[str] | Iterable[DatasetRef | UUID | str]
"""The path of a file, or references, ids and lines as of such a file."""

_COMMENT = re.compile(r"(?:^|\s)#.*")
_UUID_CHARACTERS = 36


class _Line(NamedTuple):
    place: str
    dataset_type: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    run: str | None


def excluded(access: RepositoryAccess, given: Exclude | None) -> ExcludedDatasets | None:
    """Make what crosses the wire of a list of datasets to leave out.

    Parameters
    ----------
    access : RepositoryAccess
        Asked for dataset types and dimensions, if lines speak of these.
    given : path, or iterable of DatasetRef, UUID or str; optional
        Each line of a file, and each str of an iterable, is a dataset's UUID, or a dataset type with values of
        any of its dimensions, as ``raw exposure=12 detector=3 run=LSSTCam/raw/all``; ``#`` begins a comment.

    Raises
    ------
    InvalidRequestError
        With the file and the line that cannot be understood.
    """
    if given is None:
        return None
    ids: dict[bytes, None] = {}
    lines: list[_Line] = []
    entries = _file(os.fspath(given)) if isinstance(given, str | os.PathLike) else _items(given)
    for place, entry in entries:
        if isinstance(entry, bytes):
            ids[entry] = None
        elif (line := _parse(place, entry)) is not None:
            if isinstance(line, bytes):
                ids[line] = None
            else:
                lines.append(line)
        if len(ids) + len(lines) > MAX_EXCLUDED:
            raise InvalidRequestError(
                f"{place}: more than {MAX_EXCLUDED:,} datasets to leave out",
                hint="leave whole runs out, as in 'raw run=NAME'",
            )
    return ExcludedDatasets(b"".join(ids), _grouped(access, lines) if lines else ())


def _file(path: str) -> Iterator[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                yield f"{path}, line {number}", text
    except OSError as exc:
        raise InvalidRequestError(f"the list of datasets to leave out cannot be read: {exc}") from None
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{path} is no text in UTF-8") from None


def _items(given: Iterable[DatasetRef | UUID | str]) -> Iterator[tuple[str, bytes | str]]:
    for number, item in enumerate(given, 1):
        place = f"exclude, item {number}"
        if isinstance(item, DatasetRef):
            yield place, item.id.bytes
        elif isinstance(item, UUID):
            yield place, item.bytes
        elif isinstance(item, str):
            yield place, item
        else:
            raise InvalidRequestError(f"{place} is a {type(item).__name__}", hint="give DatasetRefs, UUIDs, or lines")


def _parse(place: str, text: str) -> _Line | bytes | None:
    if '"' in text or "'" in text or "\\" in text:
        try:
            words = shlex.split(text, comments=True)
        except ValueError as exc:
            _refuse(place, f"{exc}: {text.strip()[:80]!r}")
    else:
        words = _COMMENT.sub("", text).split()
    if not words:
        return None
    if len(words) == 1:
        try:
            return UUID(words[0]).bytes
        except ValueError:
            kind = "dataset id" if len(words[0]) == _UUID_CHARACTERS else "dataset id, and names no dimension"
            _refuse(place, f"{words[0][:80]!r} is no {kind}")
    values: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals or not name or not value or name in values:
            _refuse(place, f"{word[:80]!r} is no name=value, or comes twice")
        values[name] = value
    run = values.pop("run", None)
    return _Line(place, words[0], tuple(values), tuple(values.values()), run)


def _refuse(place: str, message: str) -> NoReturn:
    raise InvalidRequestError(
        f"{place}: {message}", hint="a line is a dataset's UUID, or 'dataset_type dimension=value ... [run=RUN]'"
    ) from None


def _grouped(access: RepositoryAccess, lines: list[_Line]) -> tuple[ExcludedDataIds, ...]:
    # All of them: asked for by name, the daemon would refuse an unknown one without the line it stands in.
    listed = access.connection.call(ListDatasetTypes(repository=access.repository)).dataset_types
    universe = DimensionUniverse(access.connection.call(ops.GetDimensions(repository=access.repository)).config)
    known = {one.name: universe.group(one.dimensions) for one in listed}
    groups: dict[tuple[str, tuple[str, ...], bool], list[_Line]] = {}
    for line in lines:
        if line.dataset_type not in known:
            _refuse(line.place, f"the repository has no dataset type {line.dataset_type[:80]!r}")
        groups.setdefault((line.dataset_type, tuple(sorted(line.names)), line.run is not None), []).append(line)
    return tuple(
        _group(universe, known[dataset_type], dataset_type, names, members)
        for (dataset_type, names, _), members in groups.items()
    )


def _group(
    universe: DimensionUniverse, group: DimensionGroup, dataset_type: str, names: tuple[str, ...], lines: list[_Line]
) -> ExcludedDataIds:
    strange = [name for name in names if name not in group.names]
    if strange:
        _refuse(
            lines[0].place,
            f"{dataset_type!r} has no dimension {strange[0][:80]!r}, but {', '.join(group.names) or 'none'}",
        )
    rows = []
    for line in lines:
        values = dict(zip(line.names, line.values, strict=True))
        try:
            rows.append([universe.check_value(name, values[name]) for name in names])
        except PantryError as exc:
            _refuse(line.place, str(exc))
    runs = {line.run: None for line in lines if line.run is not None}
    number = {run: position for position, run in enumerate(runs)}
    return ExcludedDataIds(
        dataset_type,
        names,
        [list(column) for column in zip(*rows, strict=True)],
        list(runs),
        [number[line.run] for line in lines if line.run is not None],
    )
