"""What an export says, sorted by kind, as it stands there: nothing is compared with a repository yet."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import IO, Any, NamedTuple
from uuid import UUID

from pantry.client.exports.values import EMPTY, Block, ExportError, Instant, make_timespan, read_top
from pantry.errors import PantryError
from pantry.model.collections import CollectionType, check_collection_name
from pantry.model.data_id import DataIdValue
from pantry.model.timespan import Timespan

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})\Z")
_NUMBERED = UUID("4d4851f4-2890-4d41-8779-5f38a3f5062b")
"""Namespace of the ids that the Gen3 Butler gives to the datasets of old exports, which had numbers."""


class FileRecord(NamedTuple):
    """One file, or a dataset that no file was exported with.

    Attributes
    ----------
    line : int
        Where it stands.
    ids : tuple of bytes
        16 bytes for each dataset in the file.
    data_ids : tuple of (names, values)
        For each dataset.
    path : str
        As exported; empty for none.
    formatter : str
        Gen3's class; empty for the usual one.
    """

    line: int
    ids: tuple[bytes, ...]
    data_ids: tuple[tuple[tuple[str, ...], tuple[DataIdValue, ...]], ...]
    path: str
    formatter: str


class Files(NamedTuple):
    """Files of one dataset type and run."""

    line: int
    dataset_type: str
    run: str
    records: list[FileRecord]


class NamedType(NamedTuple):
    """A dataset type with Gen3's storage class."""

    line: int
    name: str
    dimensions: tuple[str, ...]
    storage_class: str
    is_calibration: bool


class NamedCollection(NamedTuple):
    """A collection."""

    line: int
    name: str
    type: CollectionType
    doc: str
    children: tuple[str, ...] = ()


class Members(NamedTuple):
    """Members of a TAGGED collection, or of a CALIBRATION collection for a time."""

    line: int
    collection: str
    timespan: Timespan | None
    ids: tuple[bytes, ...]


class Contents:
    """An export; made by `read_contents`.

    Attributes
    ----------
    name : str
        Of the file, for messages.
    universe_version, universe_namespace : int, str
        Of its dimensions; 0 where it says nothing, as the first exports did.
    records : dict of str to list of Block
        Dimension records by element.
    dataset_types : dict of str to NamedType
    collections : dict of str to NamedCollection
    files : list of Files
    members : list of Members
    notes : list of str
        What was passed over, for people.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.universe_version = 0
        self.universe_namespace = "daf_butler"
        self.records: dict[str, list[Block]] = {}
        self.dataset_types: dict[str, NamedType] = {}
        self.collections: dict[str, NamedCollection] = {}
        self.files: list[Files] = []
        self.members: list[Members] = []
        self.notes: list[str] = []

    def refuse(self, line: int, said: str, hint: str = "") -> ExportError:
        """Make an error about a line."""
        return ExportError(f"{self.name}, line {line}: {said}", hint=hint)


def read_contents(source: IO[bytes], name: str) -> Contents:
    """Read an export.

    Raises
    ------
    ExportError
        If it is none, is of a version that is not known, or says something that no export can say.
    """
    return _Sorter(name).read(source)


class _Sorter:
    def __init__(self, name: str) -> None:
        self._contents = Contents(name)
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._texts: dict[str, str] = {}
        self._refuse = self._contents.refuse

    def read(self, source: IO[bytes]) -> Contents:
        found = self._contents
        head: dict[str, Any] = {}
        for key, value in read_top(source, found.name, self._file_record):
            if key != "data":
                head[key] = value
                continue
            head[key] = None
            if isinstance(value, Block):
                self._item(value)
            elif value not in (None, []):
                raise ExportError(f"{found.name}: 'data' is not a list of mappings")
        self._head(head)
        return found

    def _head(self, head: Mapping[str, Any]) -> None:
        found, version = self._contents, head.get("version")
        for key in ("version", "data"):
            if key not in head:
                raise ExportError(f"{found.name}: not an export of the Gen3 Butler: it has no {key!r}")
        match = _VERSION.match(version) if isinstance(version, str) else None
        if version != 0 and (match is None or int(match[1]) != 1 or int(match[2]) > 0):
            raise ExportError(
                f"{found.name}: exports of version {version!r} are not known here", hint="known: 0 and 1.0"
            )
        number, namespace = head.get("universe_version", 0), head.get("universe_namespace", "daf_butler")
        if type(number) is not int or not isinstance(namespace, str):
            raise ExportError(f"{found.name}: universe_version is an integer and universe_namespace is text")
        found.universe_version, found.universe_namespace = number, namespace

    # -- items -------------------------------------------------------------------------------------

    def _item(self, item: Block) -> None:
        kind = item.get("type")
        make = {
            "dimension": self._dimension,
            "dataset_type": self._dataset_type,
            "collection": self._collection,
            "run": self._run,
            "dataset": self._dataset,
            "associations": self._associations,
        }.get(kind if isinstance(kind, str) else "")
        if make is None:
            raise self._refuse(item.line, f"unknown type of item {kind!r}")
        make(item)

    def _get(self, item: Block, key: str, kind: type, what: str) -> Any:
        value = item.get(key)
        if type(value) is not kind and not (kind is list and isinstance(value, list)):
            raise self._refuse(item.line, f"{key!r} is {what}, not {_shown(value)}")
        return value

    def _dimension(self, item: Block) -> None:
        element, records = self._get(item, "element", str, "a name"), self._get(item, "records", list, "a list")
        for record in records:
            if not isinstance(record, Block):
                raise self._refuse(item.line, f"a record of {element} is a mapping, not {_shown(record)}")
        self._contents.records.setdefault(element, []).extend(records)

    def _dataset_type(self, item: Block) -> None:
        name = self._get(item, "name", str, "text")
        made = NamedType(
            item.line,
            name,
            self._texts_of(item, "dimensions"),
            self._get(item, "storage_class", str, "a name"),
            self._get(item, "is_calibration", bool, "true or false") if "is_calibration" in item else False,
        )
        known = self._contents.dataset_types.setdefault(name, made)
        if known[1:] != made[1:]:
            raise self._refuse(item.line, f"the dataset type {name!r} is another one in line {known.line}")

    def _texts_of(self, item: Block, key: str) -> tuple[str, ...]:
        values = self._get(item, key, list, "a list")
        if not all(isinstance(one, str) for one in values):
            raise self._refuse(item.line, f"{key!r} is a list of names")
        return tuple(values)

    def _collection(self, item: Block) -> None:
        kind = item.get("collection_type")
        if kind not in list(CollectionType):
            raise self._refuse(item.line, f"unknown collection type {kind!r}")
        children: list[str] = []
        if kind == CollectionType.CHAINED:
            for child in self._get(item, "children", list, "a list"):
                # The first exports could restrict the dataset types of a child; Gen3 ignores that too.
                plain = child[0] if isinstance(child, list) and child else child
                if not isinstance(plain, str):
                    raise self._refuse(item.line, f"a child of a collection is a name, not {_shown(child)}")
                if plain is not child:
                    self._note(f"line {item.line}: which dataset types are searched in {plain!r} is ignored")
                children.append(plain)
        doc = item.get("doc")
        self._add_collection(item, CollectionType(kind), doc if isinstance(doc, str) else "", tuple(children))

    def _run(self, item: Block) -> None:
        self._add_collection(item, CollectionType.RUN, "", ())

    def _add_collection(self, item: Block, kind: CollectionType, doc: str, children: tuple[str, ...]) -> None:
        name = self._get(item, "name", str, "text")
        self._check_name(item.line, name)
        made = NamedCollection(item.line, name, kind, doc, children)
        known = self._contents.collections.setdefault(name, made)
        if (known.type, known.children) != (kind, children):
            raise self._refuse(item.line, f"the collection {name!r} is another one in line {known.line}")

    def _check_name(self, line: int, name: str) -> None:
        try:
            check_collection_name(name)
        except PantryError as exc:
            raise self._refuse(line, exc.message, exc.hint) from None

    def _note(self, said: str) -> None:
        self._contents.notes.append(said)

    # -- datasets ----------------------------------------------------------------------------------

    def _dataset(self, item: Block) -> None:
        records = self._get(item, "records", list, "a list")
        for record in records:
            if not isinstance(record, FileRecord):
                raise self._refuse(item.line, f"a dataset has 'dataset_id' and 'data_id', unlike {_shown(record)}")
        run = self._get(item, "run", str, "a name")
        self._check_name(item.line, run)
        self._contents.files.append(Files(item.line, self._get(item, "dataset_type", str, "a name"), run, records))

    def _file_record(self, record: Block) -> FileRecord | Block:
        if "dataset_id" not in record or "data_id" not in record:
            return record
        ids, data_ids = record["dataset_id"], record["data_id"]
        ids = ids if isinstance(ids, list) else [ids]
        data_ids = data_ids if isinstance(data_ids, list) else [data_ids]
        if len(ids) != len(data_ids) or not ids:
            raise self._refuse(record.line, f"{len(ids)} dataset ids for {len(data_ids)} data ids")
        path, formatter = record.get("path"), record.get("formatter")
        if any(text is not None and not isinstance(text, str) for text in (path, formatter)):
            raise self._refuse(record.line, "'path' and 'formatter' are text")
        return FileRecord(
            record.line,
            tuple(self._id(record.line, one) for one in ids),
            tuple(self._data_id(record.line, one) for one in data_ids),
            path or "",
            self._texts.setdefault(formatter or "", formatter or ""),
        )

    def _id(self, line: int, given: object) -> bytes:
        if isinstance(given, UUID):
            return given.bytes
        if type(given) is int:
            return uuid.uuid3(_NUMBERED, str(given)).bytes
        raise self._refuse(line, f"a dataset's id is a !uuid or a number, not {_shown(given)}")

    def _data_id(self, line: int, given: object) -> tuple[tuple[str, ...], tuple[DataIdValue, ...]]:
        if not isinstance(given, Block) or not all(type(value) in (int, str) for value in given.values()):
            raise self._refuse(line, f"a data id gives dimensions integers or text, unlike {_shown(given)}")
        names = tuple(given)
        return self._names.setdefault(names, names), tuple(given.values())

    # -- members -----------------------------------------------------------------------------------

    def _associations(self, item: Block) -> None:
        name, kind = self._get(item, "collection", str, "a name"), item.get("collection_type")
        members = self._contents.members
        if kind == CollectionType.TAGGED:
            members.append(Members(item.line, name, None, self._ids(item)))
        elif kind == CollectionType.CALIBRATION:
            for valid in self._get(item, "validity_ranges", list, "a list"):
                if not isinstance(valid, Block):
                    raise self._refuse(item.line, f"a validity range is a mapping, not {_shown(valid)}")
                timespan = self._timespan(valid)
                if timespan is EMPTY:
                    raise self._refuse(valid.line, "datasets that are valid at no time")
                members.append(Members(valid.line, name, timespan, self._ids(valid)))
        else:
            raise self._refuse(item.line, f"a collection of type {kind!r} has no associations")

    def _ids(self, item: Block) -> tuple[bytes, ...]:
        return tuple(self._id(item.line, one) for one in self._get(item, "dataset_ids", list, "a list"))

    def _timespan(self, item: Block) -> Timespan:
        given = item.get("timespan")
        if isinstance(given, Timespan):
            return given
        begin, end = item.get("begin"), item.get("end")
        if "timespan" in item or any(one is not None and not isinstance(one, Instant) for one in (begin, end)):
            raise self._refuse(item.line, "a validity range has a 'timespan', or times as 'begin' and 'end'")
        try:
            return make_timespan(begin, end)
        except ValueError as exc:
            raise self._refuse(item.line, f"a validity range is {exc}") from None


def _shown(value: object) -> str:
    shown = repr(dict(value)) if isinstance(value, Block) else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
