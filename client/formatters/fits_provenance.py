"""Provenance in FITS files: a table for all of it, and the keywords of Gen3's Butler for what fits into cards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from astropy.io import fits

from pantry.errors import FormatterError
from pantry.model.file_provenance import Contributor, FileProvenance

EXTENSION = "PROVENANCE"
MAX_CARDS = 100
"""Parents that the header names; the table names all."""

_OURS = re.compile(r"(LSST BUTLER |PANTRY RAW )")
_COLUMNS = ("ROLE", "ID", "DATASET_TYPE", "RUN", "DATA_ID")


def without_provenance(header: fits.Header) -> fits.Header:
    """Return a header without the cards of a provenance, itself if there are none."""
    stale = [keyword for keyword in header if _OURS.match(keyword)]
    if not stale:
        return header
    bare = header.copy()
    for keyword in stale:
        del bare[keyword]
    return bare


@contextmanager
def with_provenance(hdus: fits.HDUList, provenance: FileProvenance | None) -> Iterator[fits.HDUList]:
    """Give HDUs with this provenance in place of any other; those given are as before in the end."""
    kept = [hdu for hdu in hdus if not is_provenance(hdu)]
    if not kept:
        yield hdus
        return
    primary, header = kept[0], kept[0].header
    bare = without_provenance(header)
    if provenance is None and bare is header and len(kept) == len(hdus):
        yield hdus
        return
    # Not a copy of the HDU, which would copy its pixels.
    primary.header = bare.copy() if bare is header else bare
    try:
        if provenance is not None:
            _write_cards(primary.header, provenance)
            kept.append(_table(provenance))
        yield fits.HDUList(kept)
    finally:
        primary.header = header


def read_provenance(hdus: fits.HDUList, name: str) -> FileProvenance:
    """Return what `with_provenance` wrote; nothing of a file that has none."""
    found = [hdu for hdu in hdus if is_provenance(hdu)]
    if not found:
        return FileProvenance()
    roles: dict[str, list[Contributor]] = {"dataset": [], "input": [], "raw": []}
    quantum = None
    try:
        for role, id_, kind, run, data_id in zip(*[found[-1].data[column] for column in _COLUMNS], strict=True):
            if role == "quantum":
                quantum = UUID(id_)
                continue
            values = json.loads(data_id) if data_id else {}
            if not isinstance(values, dict):
                raise ValueError(f"{data_id[:80]!r} is no data id")
            roles[role].append(Contributor(id=UUID(id_), dataset_type=str(kind), run=str(run), data_id=values))
    except (KeyError, ValueError, TypeError) as exc:
        raise FormatterError(f"{name}: its provenance cannot be read: {exc}") from None
    return FileProvenance(
        dataset=roles["dataset"][0] if roles["dataset"] else None,
        quantum=quantum,
        inputs=tuple(roles["input"]),
        raws=tuple(roles["raw"]),
    )


def is_provenance(hdu: Any) -> bool:
    """Whether an HDU is the table of a provenance."""
    return isinstance(hdu, fits.BinTableHDU) and hdu.name == EXTENSION and tuple(hdu.columns.names) == _COLUMNS


def _table(provenance: FileProvenance) -> fits.BinTableHDU:
    rows: list[tuple[str, str, str, str, str]] = []
    if provenance.quantum is not None:
        rows.append(("quantum", str(provenance.quantum), "", "", ""))
    named = [("dataset", provenance.dataset)] if provenance.dataset is not None else []
    named += [("input", one) for one in provenance.inputs] + [("raw", one) for one in provenance.raws]
    for role, one in named:
        # In ASCII, as FITS strings are.
        values = json.dumps(one.data_id) if one.data_id else ""
        rows.append((role, str(one.id), one.dataset_type, one.run, values))
    columns = zip(_COLUMNS, zip(*rows, strict=True) if rows else [()] * len(_COLUMNS), strict=True)
    return fits.BinTableHDU.from_columns(
        [fits.Column(name, f"{max(1, *map(len, texts), 1)}A", array=list(texts)) for name, texts in columns],
        name=EXTENSION,
    )


def _write_cards(header: fits.Header, provenance: FileProvenance) -> None:
    cards: dict[str, Any] = {}
    own = provenance.dataset
    if own is not None:
        cards |= {"ID": str(own.id), "RUN": own.run, "DATASETTYPE": own.dataset_type}
        cards |= {f"DATAID {dimension.upper()}": value for dimension, value in own.data_id.items()}
    if provenance.quantum is not None:
        cards["QUANTUM"] = str(provenance.quantum)
    cards["N_INPUTS"] = len(provenance.inputs)
    if len(provenance.inputs) <= MAX_CARDS:
        for number, one in enumerate(provenance.inputs):
            cards |= {f"INPUT {number} ID": str(one.id), f"INPUT {number} RUN": one.run}
            cards[f"INPUT {number} DATASETTYPE"] = one.dataset_type
    cards = {f"LSST BUTLER {keyword}": value for keyword, value in cards.items() if value != ""}
    for number, one in enumerate(provenance.raws[:MAX_CARDS]):
        cards[f"PANTRY RAW {number}"] = " ".join(f"{key}={value}" for key, value in one.data_id.items())
    for keyword, value in cards.items():
        try:
            card = fits.Card(f"HIERARCH {keyword}", value)
            if len(str(card)) > fits.Card.length:
                continue
        except ValueError:
            continue  # too long for a card, or not ASCII: the table has it
        header.append(card, end=True)
