"""Gen3's formatters and storage classes, and ours for the same files."""

from __future__ import annotations

import posixpath

from pantry.model.storage import STORAGE_CLASSES

_BY_SUFFIX = {
    ".fits": "fits_hdus",
    ".fit": "fits_hdus",
    ".fz": "fits_hdus",
    ".gz": "fits_hdus",
    ".parq": "parquet",
    ".parquet": "parquet",
    ".json": "json",
    ".yaml": "yaml",
    ".ecsv": "ecsv",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
_FITS = frozenset(
    [
        "Exposure",
        "Image",
        "MaskedImage",
        "Mask",
        "DecoratedImage",
        "Catalog",
        "SourceCatalog",
        "SimpleCatalog",
        "PeakCatalog",
        "ExposureCatalog",
        "TablePersistable",
        "Wcs",
        "Psf",
        "CoaddInputs",
        "VisitInfo",
        "ApCorr",
        "PhotoCalib",
        "TransmissionCurve",
        "Camera",
        "Detector",
        "Defects",
        "Stamps",
        "StampsBase",
        "IsrCalib",
        "QECurve",
        "CrosstalkCalib",
        "Linearizer",
        "PhotonTransferCurveDataset",
        "BrighterFatterKernel",
        "MatchingKernel",
        "FilterLabel",
        "FiberSpectrum",
        "Polygon",
        "Background",
    ]
)
_OTHERS = {
    "TaskMetadata": "StructuredDataDict",
    "ButlerLogRecords": "StructuredDataList",
    "MetricMeasurementBundle": "StructuredDataDict",
    "PropertyList": "YamlDict",
    "PropertySet": "YamlDict",
    "ArrowNumpy": "ArrowAstropy",
    "ArrowNumpyDict": "ArrowAstropy",
    "AstropyQTable": "AstropyTable",
}


def formatter_of(gen3: str | None, path: str | None) -> str:
    """Give our formatter for a stored file.

    Parameters
    ----------
    gen3 : str or None
        Full name of Gen3's formatter class.
    path : str or None
        Of the file, whose suffix says in which standard format it is.

    Returns
    -------
    str
        Gen3's name if there is none: reading then says so.
    """
    name = (gen3 or "").rpartition(".")[2]
    if name == "PickleFormatter":
        return gen3 or ""
    if name.endswith("RawFormatter"):  # LatissRawFormatter, LsstCamRawFormatter
        return "fits_raw"
    return _BY_SUFFIX.get(posixpath.splitext(path or "")[1].lower(), gen3 or "")


def storage_class_of(gen3: str) -> str:
    """Give our storage class for one of Gen3's; the same name if there is none."""
    if gen3 in STORAGE_CLASSES:
        return gen3
    # ExposureF, ImageI: the kind of pixel is in the file.
    plain = gen3[:-1] if gen3[-1:] in "FIUXDL" and gen3[:-1] in _FITS else gen3
    if plain in _FITS:
        return "FitsHDUList"
    return _OTHERS.get(gen3, gen3)
