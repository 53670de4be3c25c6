"""What a file itself says of where it comes from, in every format, read back by one call."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.test_outputs import files
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import DatasetExistsError, InvalidRequestError
from pantry.model.datasets import DatasetRef
from pantry.model.file_provenance import Contributor, FileProvenance
from pantry.model.provenance import Quantum

DATA_ID = {"instrument": INSTRUMENT, "exposure": 1}
LONG_RUN = "u/somebody/with/a/long/name/20261126T120000Z/and-a-remark-that-is-much-too-long-for-a-FITS-card"


def table() -> Table:
    made = Table({"ra": [1.0, 2.0], "name": ["a", "b"]}, meta={"OBSERVER": "Ann"})
    made["ra"].unit = "deg"
    return made


OBJECTS: dict[str, tuple[str, Any]] = {
    "fits_image": ("CCDData", CCDData(np.arange(12.0).reshape(3, 4), unit="adu", meta={"OBJECT": "M31"})),
    "fits_array": ("FitsArray", np.arange(12, dtype=np.uint16).reshape(3, 4)),
    "fits_table": ("FitsTable", table()),
    "fits_hdus": ("FitsHDUList", fits.HDUList([fits.PrimaryHDU(np.arange(5)), fits.ImageHDU(np.arange(6), name="X")])),
    "parquet": ("ArrowAstropy", table()),
    "ecsv": ("AstropyTable", table()),
    "votable": ("VOTable", table()),
    "hdf5": ("HDF5", {"flux": np.arange(3.0), "flux@unit": "Jy"}),
    "hdf5_array": ("NumpyArray", np.arange(4)),
    "json": ("StructuredDataDict", {"gain": 1.5}),
    "yaml": ("YamlDict", {"gain": 1.5}),
    "bytes": ("Bytes", b"anything"),
}


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Butler:
    daemon = make_daemon()
    butler = Butler.create("d", str(tmp_path / "repo"), socket=daemon.socket)
    furnish(butler, 3)
    butler.register_dataset_type("raw", ["exposure", "detector"], "Bytes")
    butler.register_dataset_type("post", ["exposure", "detector"], "Bytes")
    for name, (storage_class, _) in OBJECTS.items():
        butler.register_dataset_type(f"made_{name}", ["exposure"], storage_class)
    return Butler("d", run="night", socket=daemon.socket)


def chain(butler: Butler) -> tuple[list[DatasetRef], list[DatasetRef]]:
    """Put raws and what was made of each, and record that."""
    raws, posts = [], []
    for exposure in (1, 2):
        for detector in (0, 1):
            data_id = {"instrument": INSTRUMENT, "exposure": exposure, "detector": detector}
            raws.append(butler.put(b"raw", "raw", data_id, run=LONG_RUN))
            posts.append(butler.put(b"post", "post", data_id))
    butler.record_quanta(
        Quantum(id=uuid.uuid4(), task="isr", run="night", actual_inputs=(raw.id,), outputs=(post.id,))
        for raw, post in zip(raws, posts, strict=True)
    )
    return raws, posts


def equal(found: Any, put: Any) -> bool:
    if isinstance(put, fits.HDUList):
        return all(np.array_equal(one.data, other.data) for one, other in zip(found, put, strict=False))
    if isinstance(put, CCDData):
        return np.array_equal(found.data, put.data) and not any("BUTLER" in key for key in found.header)
    if isinstance(put, Table):
        return bool((found == put).all()) and dict(found.meta) == dict(put.meta) and found["ra"].unit == put["ra"].unit
    if isinstance(put, dict):
        return found.keys() == put.keys() and all(np.array_equal(found[key], put[key]) for key in put)
    return bool(np.array_equal(found, put))


@pytest.mark.req("DMS-MWBT-REQ-0093")
@pytest.mark.req("DMS-MWBT-REQ-0096")
@pytest.mark.parametrize("name", OBJECTS)
def test_every_format_says_parents_and_raws(butler: Butler, name: str, tmp_path: Path) -> None:
    raws, posts = chain(butler)
    obj = OBJECTS[name][1]
    before = repr(obj.meta) if hasattr(obj, "meta") else repr(obj)
    header = obj[0].header.tostring() if isinstance(obj, fits.HDUList) else None
    ref = butler.put(obj, f"made_{name}", DATA_ID, provenance=posts[:3])
    assert (repr(obj.meta) if hasattr(obj, "meta") else repr(obj)) == before
    assert header is None or (obj[0].header.tostring() == header and len(obj) == 2), "the caller's object is as it was"
    said = butler.get(f"made_{name}.provenance", DATA_ID)
    assert said.dataset == Contributor.of(ref)
    assert list(said.inputs) == [Contributor.of(post) for post in posts[:3]]
    assert {one.id: one for one in said.raws} == {raw.id: Contributor.of(raw) for raw in raws[:3]}
    assert [one.data_id["detector"] for one in said.raws] == [0, 0, 1], "in order of their data ids"
    assert equal(butler.get(ref), obj)
    # Nobody who was told nothing says anything.
    again = butler.put(obj, f"made_{name}", instrument=INSTRUMENT, exposure=2)
    assert butler.get_deferred(again).get(component="provenance") == FileProvenance()


@pytest.mark.req("DMS-MWBT-REQ-0096")
def test_strangers_find_it_in_the_files(butler: Butler, tmp_path: Path) -> None:
    raws, posts = chain(butler)
    for name in ("fits_table", "fits_array", "parquet", "hdf5", "json"):
        butler.put(OBJECTS[name][1], f"made_{name}", DATA_ID, provenance=posts)
    found = {path.name.split(f"_{INSTRUMENT}")[0]: path for path in files(tmp_path / "repo") if "made" in path.name}
    for name in ("made_fits_table", "made_fits_array"):
        with fits.open(found[name], checksum=True) as hdus:
            hdus.verify("exception")
            assert [hdus[0].header[f"LSST BUTLER INPUT {n} ID"] for n in range(4)] == [str(one.id) for one in posts]
            assert hdus[0].header["PANTRY RAW 3"] == f"instrument={INSTRUMENT} detector=1 exposure=2"
            # The run of the raws has no room in a card.
            assert set(hdus["PROVENANCE"].data["RUN"]) == {"night", LONG_RUN}
    kept = pq.read_schema(found["made_parquet"]).metadata[b"pantry_provenance"]
    assert {one["id"] for one in json.loads(kept)["raws"]} == {str(raw.id) for raw in raws}
    with h5py.File(found["made_hdf5"]) as file:
        assert json.loads(file.attrs["pantry_provenance"])["inputs"][0]["dataset_type"] == "post"
    assert json.loads(found["made_json"].read_text()) == {"gain": 1.5}, "the content is the user's own"
    beside = json.loads(found["made_json.provenance"].read_text())
    assert beside["dataset"]["dataset_type"] == "made_json"


def test_gen3_reads_the_header(butler: Butler, tmp_path: Path) -> None:
    from lsst.daf.butler._dataset_provenance import DatasetProvenance

    _, posts = chain(butler)
    ref = butler.put(OBJECTS["fits_table"][1], "made_fits_table", DATA_ID, provenance=posts)
    (path,) = [path for path in files(tmp_path / "repo") if "made" in path.name]
    with fits.open(path) as hdus:
        said = {key: value for key, value in hdus[0].header.items() if key.startswith("LSST BUTLER")}
    flat = DatasetProvenance(inputs=[]).to_flat_dict(None, prefix="LSST BUTLER", sep=" ")
    assert flat == {}
    assert said["LSST BUTLER ID"] == str(ref.id)
    assert said["LSST BUTLER N_INPUTS"] == 4
    assert said["LSST BUTLER DATAID EXPOSURE"] == 1
    prefix, separator = DatasetProvenance._find_prefix_and_sep(said)
    assert (prefix, separator) == ("LSST BUTLER", " ")


def test_what_is_derived_does_not_carry_its_parents_provenance(butler: Butler) -> None:
    _, posts = chain(butler)
    first = butler.put(OBJECTS["fits_hdus"][1], "made_fits_hdus", DATA_ID, provenance=posts[:2])
    read = butler.get(first)
    assert read[-1].name == "PROVENANCE", "an HDU list is the whole file"
    second = butler.put(read, "made_fits_hdus", instrument=INSTRUMENT, exposure=2)
    assert butler.get("made_fits_hdus.provenance", instrument=INSTRUMENT, exposure=2) == FileProvenance()
    third = butler.put(butler.get(first), "made_fits_hdus", instrument=INSTRUMENT, exposure=3, provenance=[first])
    assert [one.id for one in butler.get_deferred(third).get(component="provenance").inputs] == [first.id]
    assert "LSST BUTLER ID" not in butler.get(second)[0].header


def test_thousands_of_parents(butler: Butler) -> None:
    many = FileProvenance(
        inputs=tuple(Contributor(id=uuid.uuid4(), dataset_type="warp", run=LONG_RUN) for _ in range(5000)),
        quantum=uuid.uuid4(),
    )
    for name in ("fits_table", "hdf5", "parquet", "ecsv", "votable", "json"):
        butler.put(OBJECTS[name][1], f"made_{name}", DATA_ID, provenance=many)
        said = butler.get(f"made_{name}.provenance", DATA_ID)
        assert (said.inputs, said.quantum) == (many.inputs, many.quantum)


def test_beside_is_all_or_nothing_too(butler: Butler, tmp_path: Path) -> None:
    _, posts = chain(butler)
    butler.put({"n": 1}, "made_json", DATA_ID)
    before = files(tmp_path)
    with pytest.raises(DatasetExistsError):
        butler.put({"n": 2}, "made_json", DATA_ID, provenance=posts)
    assert files(tmp_path) == before
    with pytest.raises(InvalidRequestError, match="by DatasetRef, not by a str"):
        butler.put({"n": 2}, "made_json", DATA_ID, run="other", provenance=["raw"])  # type: ignore[list-item]
    with pytest.raises(InvalidRequestError, match="by DatasetRef, not by a UUID"):
        butler.put({"n": 2}, "made_json", DATA_ID, run="other", provenance=uuid.uuid4())  # type: ignore[arg-type]


def test_composites_in_parts(butler: Butler) -> None:
    _, posts = chain(butler)
    own = {"dataset_types": {"made_fits_image": {"disassembled": True}}}
    mine = Butler("d", run="parts", formats=own, connection=butler.connection)
    ref = mine.put(OBJECTS["fits_image"][1], "made_fits_image", DATA_ID, provenance=posts)
    assert [one.id for one in mine.get("made_fits_image.provenance", DATA_ID).inputs] == [post.id for post in posts]
    image = mine.get_components(ref)["image"]
    assert equal(mine.get(ref), OBJECTS["fits_image"][1])
    assert image.dataset_type.name == "made_fits_image.image"
