"""The one place that decides what a dataset's file is called (DMS-MWBT-REQ-0066, 0078).

A dataset's path is ``<run>/<dataset type>/<dimension values but the last>/<file>``, where the file
is ``<dataset type>_<all values>`` with the suffix of its format. The directories hold one value
each, so that two data ids never share a path; `quote_value` is injective for the same reason. In a CALIBRATION
collection several datasets have one data id: there a directory for the time of validity stands before the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pantry.model.data_id import DataIdValue
from pantry.model.timespan import BEGIN_NS, END_NS, Timespan

if TYPE_CHECKING:
    from pantry.model.datasets import DatasetRef
    from pantry.model.dimensions import DimensionUniverse

SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.,=@~:")
"""Characters that stand for themselves in a path."""

_COMPRESSED = ("gz", "fz", "bz2", "xz", "zst")
_HEX = "0123456789ABCDEF"
_EPOCH = datetime(1970, 1, 1)
_INSTANT = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.(\d{9}))?\Z", re.ASCII)


def quote_value(value: DataIdValue) -> str:
    """Write a dimension value as one component of a path, reversibly.

    Bytes outside a portable set become ``%XX``, as does a leading dot; the empty string is ``%``.
    """
    text = str(value)
    if not text:
        return "%"
    quoted = "".join(
        char
        if char in SAFE
        else "".join(f"%{byte >> 4:X}{byte & 15:X}" for byte in char.encode("utf-8", "surrogatepass"))
        for char in text
    )
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def unquote_value(name: str) -> str | None:
    """Give back what `quote_value` wrote, or None if it never wrote that."""
    if name == "%":
        return ""
    raw = bytearray()
    index = 0
    while index < len(name):
        if name[index] != "%":
            if name[index] not in SAFE:
                return None
            raw += name[index].encode()
            index += 1
            continue
        digits = name[index + 1 : index + 3]
        if len(digits) != 2 or any(digit not in _HEX for digit in digits):
            return None
        raw.append(int(digits, 16))
        index += 3
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return text if quote_value(text) == name else None


def quote_last(value: DataIdValue, extension: str) -> str:
    """Write the value that stands before the suffix, so that both can be read back.

    Behind ``a.fits`` the suffix ``.fz`` would look like ``.fits.fz`` behind ``a``: then the dots of the value are
    quoted too. A suffix that `extension_of` does not know, such as ``.ome.tiff``, has a ``%`` between it and a text.
    """
    quoted = quote_value(value)
    if not isinstance(value, str) or extension_of(f"_{quoted}{extension}") == extension:
        return quoted
    plain = quoted.replace(".", "%2E")
    return plain if extension_of(f"_{plain}{extension}") == extension else plain + "%"


def unquote_last(name: str) -> str | None:
    """Give back what `quote_last` wrote, or None if it never wrote that."""
    if name.endswith("%") and name != "%":
        name = name[:-1]
    first = 3 if name.startswith("%2E") else 0  # a leading dot is always quoted
    return unquote_value(name[:first] + name[first:].replace("%2E", "."))


def file_name(dataset_type: str, values: Sequence[DataIdValue], extension: str) -> str:
    """Name of a dataset's file: its type and required data id values, then the format's suffix."""
    if not values:
        return dataset_type + extension
    parts = [*map(quote_value, values[:-1]), quote_last(values[-1], extension)]
    return "_".join([dataset_type, *parts]) + extension


def name_in_format(name: str, ref: DatasetRef, extension: str) -> str:
    """Name of a dataset's file in another format than the stored one: only the suffix follows the format.

    Parameters
    ----------
    name : str
        What the file is called in the mount, with or without directories.
    ref : DatasetRef
        Which dataset.
    extension : str
        The format's suffix, with the dot.
    """
    directory, slash, file = name.rpartition("/")
    kind, values = ref.dataset_type.name, ref.data_id.required_values
    if not values:
        return directory + slash + kind + extension
    # In which order the values stand only the universe knows, but not how long they are together.
    length = len("_".join([kind, *map(quote_value, values)]))
    for last in dict.fromkeys(values):
        quoted = quote_value(last)
        plain = quoted.replace(".", "%2E")
        for written in dict.fromkeys((quoted, plain, plain + "%")):
            stem = file[: length - len(quoted) + len(written)]
            suffix = file[len(stem) :]
            fits = stem.startswith(kind + "_") and stem.endswith("_" + written)
            if fits and (not suffix or suffix[0] == "."):
                return directory + slash + stem.removesuffix(written) + quote_last(last, extension) + extension
    raise ValueError(f"{name!r} is no name of {ref}")


def ordered_values(universe: DimensionUniverse, ref: DatasetRef) -> list[DataIdValue]:
    """Values of a dataset's required dimensions in the order of directories."""
    values = ref.data_id.required
    return [values[name] for name in universe.path_order(universe.group(ref.dataset_type.dimensions))]


def directory_parts(dataset_type: str, values: Sequence[DataIdValue]) -> tuple[str, ...]:
    """Directories between the collection and the file: the type, then each value but the last."""
    return (dataset_type, *(quote_value(value) for value in values[:-1]))


def dataset_path(run: str, dataset_type: str, values: Sequence[DataIdValue], extension: str) -> str:
    """Path of a dataset's file below the repository's root, and below ``/pantry/<repo>``."""
    return "/".join([run, *directory_parts(dataset_type, values), file_name(dataset_type, values, extension)])


def is_ambiguous(run: str, dataset_type: str, parts: Sequence[str]) -> bool:
    """Whether `dataset_path` could also be that of another dataset type in a shorter run.

    That takes a run such as ``r/raw_a`` that ends like the directories of the type ``raw_a``, and a last value such
    as ``a_raw_5`` that repeats all of them: ``r/raw_a/raw/raw_a_raw_5`` is a ``raw`` or, in the run ``r``, a ``raw_a``.

    Parameters
    ----------
    run, dataset_type : str
        Of the dataset.
    parts : sequence of str
        Its values as paths have them, in the order of directories.
    """
    stem, above = "_".join([dataset_type, *parts]), run.split("/")
    between = "_".join([dataset_type, *parts[:-1], ""])
    return any(stem.startswith("_".join([*above[depth:], between])) for depth in range(len(above)))


def validity_name(span: Timespan) -> str:
    """Name of the directory with the calibrations that are valid for exactly this time.

    Begin and end in TAI, to the second unless there is more, as ``20250415T000000_20260101T120000``; an end that is
    open is ``open``. Two times of validity never have the same name.
    """
    begin = "open" if span.begin_ns == BEGIN_NS else _instant_name(span.begin_ns)
    end = "open" if span.end_ns == END_NS else _instant_name(span.end_ns)
    return f"{begin}_{end}"


def parse_validity(name: str) -> Timespan | None:
    """Give back the time that `validity_name` wrote, or None if it never wrote that."""
    first, _, second = name.partition("_")
    begin = BEGIN_NS if first == "open" else _parse_instant(first)
    end = END_NS if second == "open" else _parse_instant(second)
    if begin is None or end is None or begin > end:
        return None
    span = Timespan(begin, end)
    return span if validity_name(span) == name else None


def _instant_name(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    day = _EPOCH + timedelta(seconds=seconds)
    return f"{day:%Y%m%dT%H%M%S}" + (f".{rest:09d}" if rest else "")


def _parse_instant(name: str) -> int | None:
    found = _INSTANT.match(name)
    if found is None:
        return None
    try:
        day = datetime(*map(int, found.groups()[:6]))  # type: ignore[arg-type]
    except ValueError:
        return None
    seconds = (day - _EPOCH) // timedelta(seconds=1)
    ns = seconds * 1_000_000_000 + int(found[7] or 0)
    return ns if -(2**63) <= ns < 2**63 else None


def extension_of(path: str) -> str:
    """Suffix of a stored file's name, compound ones such as ``.fits.fz`` whole; may be empty."""
    name = path.rsplit("/", 1)[-1]
    stem, dot, last = name.rpartition(".")
    if not dot or not stem or not last.isalnum() or len(last) > 8:
        return ""
    if last in _COMPRESSED:
        inner = extension_of(stem)
        return inner + "." + last if inner and not inner[1:].isdigit() else "." + last
    return "." + last
