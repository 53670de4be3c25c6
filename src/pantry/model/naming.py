"""The one place that decides what a dataset's file is called (DMS-MWBT-REQ-0066, 0078).

A dataset's path is ``<run>/<dataset type>/<dimension values but the last>/<file>``, where the file
is ``<dataset type>_<all values>`` with the suffix of its format. The directories hold one value
each, so that two data ids never share a path; `quote_value` is injective for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from pantry.model.data_id import DataIdValue

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.,=@~:")
_HEX = "0123456789ABCDEF"


def quote_value(value: DataIdValue) -> str:
    """Write a dimension value as one component of a path, reversibly.

    Bytes outside a portable set become ``%XX``, as does a leading dot; the empty string is ``%``.
    """
    text = str(value)
    if not text:
        return "%"
    quoted = "".join(
        char
        if char in _SAFE
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
            if name[index] not in _SAFE:
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


def file_name(dataset_type: str, values: Sequence[DataIdValue], extension: str) -> str:
    """Name of a dataset's file: its type and required data id values, then the format's suffix."""
    return "_".join([dataset_type, *(quote_value(value) for value in values)]) + extension


def directory_parts(dataset_type: str, values: Sequence[DataIdValue]) -> tuple[str, ...]:
    """Directories between the collection and the file: the type, then each value but the last."""
    return (dataset_type, *(quote_value(value) for value in values[:-1]))


def dataset_path(run: str, dataset_type: str, values: Sequence[DataIdValue], extension: str) -> str:
    """Path of a dataset's file below the repository's root, and below ``/pantry/<repo>``."""
    return "/".join([run, *directory_parts(dataset_type, values), file_name(dataset_type, values, extension)])


def extension_of(path: str) -> str:
    """Suffix of a stored file's name, compound ones such as ``.fits.fz`` whole; may be empty."""
    name = path.rsplit("/", 1)[-1]
    stem, dot, last = name.rpartition(".")
    if not dot or not stem or not last.isalnum() or len(last) > 8:
        return ""
    if last in ("gz", "fz", "bz2", "xz", "zst"):
        inner = extension_of(stem)
        return inner + "." + last if inner and not inner[1:].isdigit() else "." + last
    return "." + last
