"""A dataset with all its components as one file that any astronomer's program reads (DMS-MWBT-REQ-0077)."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO, NamedTuple, cast

from pantry.client.composites.delegates import Part, delegate_by_name, delegate_of
from pantry.client.formatters import WriteRequest, convert, formatter_by_name
from pantry.client.formatters.conversions import type_names
from pantry.client.staging import replaced_atomically
from pantry.errors import FormatterError, InvalidRequestError
from pantry.model.composites import Manifest, Source
from pantry.model.datasets import DatasetRef
from pantry.model.naming import name_in_format

SUFFIXES = {"fits": ".fits", "hdf5": ".h5"}
_TABLES = ("astropy.table.Table", "pandas.DataFrame", "pyarrow.Table")


class Exported(NamedTuple):
    """What is exported.

    Attributes
    ----------
    ref : DatasetRef
        Which dataset it is.
    name : str
        Of its file, as it is in the mount.
    obj : object
        Its content.
    manifest : Manifest or None
        Of a composite.
    """

    ref: DatasetRef
    name: str
    obj: Any
    manifest: Manifest | None


def write_export(exported: Exported, directory: str, format_name: str, *, overwrite: bool) -> str:
    """Write the file; see `Butler.export_file`."""
    if format_name not in SUFFIXES:
        raise InvalidRequestError(f"unknown format {format_name!r}", hint=f"known: {', '.join(SUFFIXES)}")
    name = name_in_format(exported.name, exported.ref, SUFFIXES[format_name])
    if not os.path.isdir(directory):
        raise FileNotFoundError(errno.ENOENT, "there is no such directory", directory)
    path = os.path.join(directory, name)
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(errno.EEXIST, "the file exists already; overwrite=True replaces it", path)
    parts = _parts(exported)
    with replaced_atomically(os.path.abspath(path)) as fd, open(os.dup(fd), "w+b") as file:
        if format_name == "fits":
            _write_fits(exported, parts, file)
        else:
            _write_hdf5(exported, parts, file)
    return path


def _parts(exported: Exported) -> dict[str, Part]:
    manifest, obj = exported.manifest, exported.obj
    if manifest is not None:
        return delegate_by_name(manifest.delegate).disassemble(obj)[0]
    for kind in type_names(obj):
        try:
            return delegate_by_name(delegate_of(kind)).disassemble(obj)[0]
        except FormatterError:
            continue
    return {"data": delegate_by_name("mapping").store("data", obj)}


def _sources(exported: Exported) -> list[tuple[str, str, str, str]]:
    """Return component, dataset id, repository and component of that dataset, of each source."""
    if exported.manifest is None:
        return [("", str(exported.ref.id), exported.ref.repository, "")]

    def row(name: str, source: Source) -> tuple[str, str, str, str]:
        return name, str(source.id or ""), source.repository, source.component

    base = [row("", exported.manifest.base)] if exported.manifest.base is not None else []
    return base + [row(name, source) for name, source in exported.manifest.components.items()]


def _about(ref: DatasetRef) -> dict[str, str]:
    return {
        "DSTYPE": ref.dataset_type.name,
        "DSUUID": str(ref.id),
        "DSRUN": ref.run,
        "DSDATAID": json.dumps(ref.data_id.required),
    }


def _write_fits(exported: Exported, parts: Mapping[str, Part], file: BinaryIO) -> None:
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    primary.header.update(_about(exported.ref))
    with ExitStack() as stack:
        hdus = fits.HDUList([primary])
        for name, part in parts.items():
            for number, hdu in enumerate(_fits_hdus(stack, name, part)):
                hdu.name = name.upper() if not number else f"{name.upper()}_{number}"
                hdus.append(hdu)
        hdus.append(_components_hdu(exported))
        hdus.writeto(file, checksum=True, output_verify="exception")


def _components_hdu(exported: Exported) -> Any:
    """List of which dataset each component is."""
    from astropy.io import fits

    columns = zip(("COMPONENT", "DATASET", "REPOSITORY", "PART"), zip(*_sources(exported), strict=True), strict=True)
    return fits.BinTableHDU.from_columns(
        [fits.Column(name, f"{max(1, *map(len, values))}A", array=list(values)) for name, values in columns],
        name="COMPONENTS",
    )


def _fits_hdus(stack: ExitStack, name: str, part: Part) -> list[Any]:
    """Return the HDUs of one component, as its own file would have them."""
    import numpy as np
    from astropy.io import fits

    kinds, obj = type_names(part.obj), part.obj
    if isinstance(obj, dict | list | str):
        text = json.dumps(obj, ensure_ascii=True)
        return [fits.BinTableHDU.from_columns([fits.Column("JSON", f"{max(1, len(text))}A", array=[text])])]
    if isinstance(obj, bytes):
        return [fits.BinTableHDU.from_columns([fits.Column("BYTES", "B", array=np.frombuffer(obj, np.uint8))])]
    if any(kind in _TABLES for kind in kinds) or (isinstance(obj, np.ndarray) and obj.dtype.names):
        formatter, obj = "fits_table", convert(obj, "astropy.table.Table")
    else:
        formatter = "fits_hdus" if "astropy.io.fits.HDUList" in kinds else "fits_image"
    file = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115 - it is
    formatter_by_name(formatter).write(obj, file, WriteRequest(formatter=f"the component {name!r}"))
    file.flush()
    # By a path, as astropy maps a file into memory only if it was opened for reading.
    hdus = stack.enter_context(fits.open(f"/proc/self/fd/{file.fileno()}", memmap=True))
    return [_extension(hdu) for hdu in hdus if hdu.data is not None or len(hdus) == 1]


def _extension(hdu: Any) -> Any:
    """Return an HDU as one that may follow another."""
    from astropy.io import fits

    return fits.ImageHDU(hdu.data, hdu.header) if isinstance(hdu, fits.PrimaryHDU) else hdu


def _write_hdf5(exported: Exported, parts: Mapping[str, Part], file: BinaryIO) -> None:
    content: dict[str, Any] = {f"@{key}": value for key, value in _about(exported.ref).items()}
    for name, part in parts.items():
        content[name] = _hdf5_value(name, part.obj)
    content["components"] = {
        name or "base": {"@dataset": id_, "@repository": repository, "@part": inner}
        for name, id_, repository, inner in _sources(exported)
    }
    formatter_by_name("hdf5").write(content, file, WriteRequest(formatter="hdf5"))


def _hdf5_value(name: str, obj: Any) -> Any:
    kinds = type_names(obj)
    if "astropy.nddata.CCDData" in kinds:
        header = obj.wcs.to_header(relax=True) if obj.wcs is not None else {}
        cards = {**dict(obj.meta), **dict(header)}
        return {"data": obj.data, "data@unit": str(obj.unit), "@header": json.dumps(cards, default=str)}
    if "astropy.io.fits.HDUList" in kinds:
        return {"@header": obj[0].header.tostring(sep="\n", endcard=False, padding=False)}
    if any(kind in _TABLES for kind in kinds):
        return convert(obj, "astropy.table.Table")
    if isinstance(obj, dict | list):
        return json.dumps(obj)
    if isinstance(obj, bytes | str) or "numpy.ndarray" in kinds:
        return obj
    raise FormatterError(f"the component {name!r} is a {kinds[0]}, which HDF5 cannot hold")
