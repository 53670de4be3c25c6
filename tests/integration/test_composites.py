"""Composites: stored in parts, read by components, made of others, gathered from several sources, exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import h5py
import msgspec
import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.test_outputs import files
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConfigError, DatasetNotFoundError, FormatterError, InvalidRequestError
from pantry.model.composites import Manifest, Source

DATA_ID = {"instrument": INSTRUMENT, "exposure": 1}
IN_PARTS: dict[str, Any] = {"dataset_types": {"calexp": {"disassembled": True}, "bag": {"disassembled": True}}}


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any]) -> PantryDaemon:
    return make_daemon(storage_config)


def make(daemon: PantryDaemon, name: str, root: str, formats: dict[str, Any] | None) -> Butler:
    butler = Butler.create(name, root, formats=formats, socket=daemon.socket)
    furnish(butler, 3)
    butler.register_dataset_type("calexp", ["exposure"], "CCDData")
    butler.register_dataset_type("bag", ["exposure"], "StructuredDataDict")
    return Butler(name, run="night", socket=daemon.socket)


@pytest.fixture
def butler(daemon: PantryDaemon, tmp_path: Path) -> Butler:
    return make(daemon, "parts", str(tmp_path / "parts"), IN_PARTS)


def sky(crval: float = 10.0) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cdelt = [50, 40], [crval, -30.0], [-5e-5, 5e-5]
    return wcs


def exposure() -> CCDData:
    pixels = np.arange(80 * 100, dtype=np.float32).reshape(80, 100)
    return CCDData(
        pixels,
        unit="adu",
        wcs=sky(),
        mask=pixels % 7 == 0,
        uncertainty=StdDevUncertainty(np.sqrt(pixels)),
        meta={"OBJECT": "M31", "EXPTIME": 30.0},
        psf=np.ones((5, 5)) / 25,
    )


def same(found: CCDData, put: CCDData) -> None:
    assert np.array_equal(found.data, put.data)
    assert found.unit == put.unit
    assert np.array_equal(found.mask, put.mask)
    assert type(found.uncertainty) is type(put.uncertainty)
    assert np.array_equal(found.uncertainty.array, put.uncertainty.array)
    assert np.array_equal(found.psf, put.psf)
    assert found.wcs.wcs.crval.tolist() == put.wcs.wcs.crval.tolist()
    assert found.header["OBJECT"] == "M31"


@pytest.mark.req("DMS-MWBT-REQ-0034")
def test_stored_in_parts_and_read_whole_or_by_component(butler: Butler, tmp_path: Path) -> None:
    ref = butler.put(exposure(), "calexp", DATA_ID)
    names = [path.name for path in files(tmp_path / "parts")]
    assert sorted(names) == sorted([f"calexp{part}_{INSTRUMENT}_1{end}" for part, end in PARTS.items()])
    same(butler.get("calexp", DATA_ID), exposure())
    same(butler.get(ref), exposure())
    assert np.array_equal(butler.get("calexp.psf", DATA_ID), exposure().psf)
    mask = butler.get("calexp.mask", DATA_ID)
    assert mask.dtype == bool
    assert np.array_equal(mask, exposure().mask)
    assert butler.get("calexp.wcs", DATA_ID).wcs.crval.tolist() == [10.0, -30.0]
    assert butler.get("calexp.header", DATA_ID)["EXPTIME"] == 30.0
    assert isinstance(butler.get("calexp.uncertainty", DATA_ID), StdDevUncertainty)
    handle = butler.get_deferred("calexp", DATA_ID)
    assert np.array_equal(handle.get(component="psf"), exposure().psf)
    assert np.array_equal(handle.get(parameters={"bbox": (0, 0, 3, 2)}).data, exposure().data[:2, :3])


PARTS = {"": ".json", ".image": ".fits", ".mask": ".fits", ".psf": ".fits", ".uncertainty": ".fits"}


@pytest.mark.req("DMS-MWBT-REQ-0033")
def test_a_box_of_every_part(butler: Butler) -> None:
    butler.put(exposure(), "calexp", DATA_ID)
    box = butler.get("calexp", DATA_ID, parameters={"bbox": (20, 10, 60, 30)})
    whole = exposure()
    assert np.array_equal(box.data, whole.data[10:30, 20:60])
    assert np.array_equal(box.mask, whole.mask[10:30, 20:60])
    assert np.array_equal(box.uncertainty.array, whole.uncertainty.array[10:30, 20:60])
    corner = np.array(whole.wcs.pixel_to_world_values(20, 10))
    wcs = butler.get("calexp.wcs", DATA_ID, parameters={"bbox": (20, 10, 60, 30)})
    for one in (box.wcs, wcs):
        assert np.array(one.pixel_to_world_values(0, 0)) == pytest.approx(corner)
    some = butler.get("calexp", DATA_ID, parameters={"components": ["mask", "psf"]})
    assert sorted(some) == ["mask", "psf"]
    with pytest.raises(FormatterError, match="bbox and components"):
        butler.get("calexp", DATA_ID, parameters={"rows": (0, 1)})
    with pytest.raises(FormatterError, match="no component 'flat'") as caught:
        butler.get("calexp.flat", DATA_ID)
    assert "image, mask" in str(caught.value.hint)


def test_components_are_datasets_that_stay_out_of_the_way(butler: Butler) -> None:
    butler.put(exposure(), "calexp", DATA_ID)
    assert [kind.name for kind in butler.query_dataset_types("cal*")] == ["calexp"]
    assert "calexp.psf" not in [kind.name for kind in butler.query_dataset_types()]
    assert [ref.dataset_type.name for ref in butler.query_datasets("*")] == ["calexp"]
    assert len(list(butler.query_datasets("calexp.*"))) == 4
    (psf,) = butler.query_datasets("calexp.psf")
    assert butler.get_components("calexp", DATA_ID)["psf"] == psf
    assert np.array_equal(butler.get(psf), exposure().psf)
    # They are fetched, and go, with their composite.
    assert pantry(butler, "cache", "evict", "--all").returncode == 0
    fetched = pantry(butler, "cache", "prefetch", "parts", "calexp", "-c", "night", "--json")
    assert fetched.returncode == 0, fetched.stderr
    cached = pantry(butler, "cache", "status", "--json")
    assert json.loads(cached.stdout)["objects"] == 5


@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_a_part_that_cannot_be_written_leaves_nothing(butler: Butler, tmp_path: Path) -> None:
    pixels = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(butler.get(butler.put(pixels, "calexp", instrument=INSTRUMENT, exposure=3)).data, pixels)
    with pytest.raises(FormatterError, match="a dict is no CCDData"):
        butler.put({"n": 1}, "calexp", DATA_ID)
    before = files(tmp_path / "parts")
    broken = exposure()
    broken.psf = np.array(["not", "pixels"])
    with pytest.raises(FormatterError):
        butler.put(broken, "calexp", DATA_ID)
    assert files(tmp_path / "parts") == before
    assert not butler.exists("calexp", DATA_ID)
    butler.put(exposure(), "calexp", DATA_ID)


def test_a_mapping_in_parts(butler: Butler) -> None:
    bag = {
        "stars": Table({"flux": [1.0, 2.0] * units.Jy}),
        "pixels": np.arange(6).reshape(2, 3),
        "notes": {"seeing": 0.7},
        "flags": ["a", "b"],
    }
    butler.put(bag, "bag", DATA_ID)
    found = butler.get("bag", DATA_ID)
    assert list(found) == list(bag)
    assert found["stars"]["flux"].unit == units.Jy
    assert np.array_equal(found["pixels"], bag["pixels"])
    assert (found["notes"], found["flags"]) == (bag["notes"], bag["flags"])
    with pytest.raises(FormatterError, match="no storage class is known for"):
        butler.put({"x": object()}, "bag", DATA_ID, run="other")
    with pytest.raises(FormatterError, match="cannot be the name of a component"):
        butler.put({"../x": [1]}, "bag", DATA_ID, run="other")


@pytest.mark.req("DMS-MWBT-REQ-0063")
def test_in_parts_here_and_in_one_file_there(
    butler: Butler, daemon: PantryDaemon, tmp_path: Path, s3_root: str
) -> None:
    make(daemon, "one_file", str(tmp_path / "one"), None)
    make(daemon, "bucket", s3_root, IN_PARTS)
    ref = butler.put(exposure(), "calexp", DATA_ID, outputs=["parts", "one_file", "bucket"])
    assert len(files(tmp_path / "parts")) == 5
    assert [path.suffix for path in files(tmp_path / "one")] == [".fits"]
    components = {}
    for name in ("parts", "one_file", "bucket"):
        mine = Butler(name, collections="night", socket=daemon.socket)
        same(mine.get("calexp", DATA_ID), exposure())
        assert mine.find_dataset("calexp", DATA_ID) == ref
        components[name] = {part: found.id for part, found in mine.get_components("calexp", DATA_ID).items()}
    assert components["parts"] == components["bucket"]
    assert components["one_file"] == {}


@pytest.mark.req("DMS-MWBT-REQ-0051")
def test_a_component_is_replaced_by_one_that_is_stored_elsewhere(
    butler: Butler, daemon: PantryDaemon, tmp_path: Path
) -> None:
    night = butler.put(exposure(), "calexp", DATA_ID)
    release = make(daemon, "release", str(tmp_path / "release"), None)
    release.register_dataset_type("solution", ["exposure"], "FitsHDUList")
    solved = release.put(fits.HDUList([fits.PrimaryHDU(header=sky(11.5).to_header())]), "solution", DATA_ID)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    better = butler.put_composite(
        {"wcs": Butler("release", collections="night", socket=daemon.socket).find_dataset("solution", DATA_ID)},
        "calexp",
        night.data_id,
        base=night,
        run="better",
    )
    # The reference of another repository's Butler has no repository's name: it is found by its id.
    assert butler.get(better).wcs.wcs.crval.tolist() == [11.5, -30.0]
    assert butler.get_components(better)["wcs"].repository == "release"
    gone = msgspec.structs.replace(solved, id=uuid4())
    with pytest.raises(DatasetNotFoundError, match="is in no repository that you may read here"):
        butler.put_composite({"wcs": gone}, "calexp", night.data_id, base=night, run="better_1")
    named = Butler(["release", "parts"], collections="night", socket=daemon.socket).find_dataset("solution", DATA_ID)
    assert named is not None
    better = butler.put_composite({"wcs": named}, "calexp", night.data_id, base=night, run="better_2")
    found = butler.get(better)
    assert found.wcs.wcs.crval.tolist() == [11.5, -30.0]
    assert np.array_equal(found.data, exposure().data)
    assert np.array_equal(found.psf, exposure().psf)
    box = butler.get(better, parameters={"bbox": (20, 10, 60, 30)})
    corner = np.array(sky(11.5).pixel_to_world_values(20, 10))
    assert np.array(box.wcs.pixel_to_world_values(0, 0)) == pytest.approx(corner)
    assert butler.get("calexp.wcs", DATA_ID, collections="better_2").wcs.crval[0] == 11.5
    assert np.array_equal(butler.get("calexp.psf", DATA_ID, collections="better_2"), exposure().psf)
    # Identity: which dataset, in which repository.
    parts = butler.get_components(better)
    assert (parts["wcs"], parts["wcs"].repository, parts["base"]) == (solved, "release", night)
    # What was there is untouched, and read as before.
    assert {path: path.read_bytes() for path in before} == before
    assert butler.get(night).wcs.wcs.crval.tolist() == [10.0, -30.0]


def test_a_composite_of_objects_and_parts_of_other_files(butler: Butler, daemon: PantryDaemon, tmp_path: Path) -> None:
    one_file = make(daemon, "one_file", str(tmp_path / "one"), None).put(exposure(), "calexp", DATA_ID)
    chain = Butler(["parts", "one_file"], collections="night", socket=daemon.socket)
    butler.put({"n": 1}, "config", DATA_ID)
    named = chain.find_dataset("calexp", DATA_ID)
    assert named == one_file
    ref = butler.put_composite({"image": named, "wcs": sky(12.5), "mask": (named, "mask")}, "calexp", DATA_ID)
    found = butler.get(ref)
    assert found.wcs.wcs.crval[0] == 12.5
    assert np.array_equal(found.data, exposure().data)
    assert np.array_equal(found.mask, exposure().mask)
    assert butler.get_components(ref)["image"].repository == "one_file"


@pytest.mark.req("DMS-MWBT-REQ-0035")
def test_gathered_from_several_sources(butler: Butler, daemon: PantryDaemon) -> None:
    butler.put(exposure(), "calexp", DATA_ID)
    butler.register_dataset_type("solution", ["exposure"], "FitsHDUList")
    butler.put(fits.HDUList([fits.PrimaryHDU(header=sky(13.5).to_header())]), "solution", DATA_ID)
    butler.register_dataset_type("quality", ["exposure"], "StructuredDataDict", metadata=["seeing:float=seeing"])
    butler.put({"seeing": 0.7}, "quality", DATA_ID)
    formats = {
        "dataset_types": {
            "calexp": {"sources": {"wcs": {"dataset": "solution"}}},
            "view": {
                "sources": {
                    "image": {"dataset": "calexp", "component": "image"},
                    "exposure": {"record": "exposure"},
                    "filter": {"record": "exposure", "entry": "physical_filter"},
                    "seeing": {"metadata": "quality", "entry": "seeing"},
                }
            },
        }
    }
    mine = Butler("parts", collections="night", formats=formats, socket=daemon.socket)
    view = mine.get("view", DATA_ID)
    assert list(view) == ["image", "exposure", "filter", "seeing"]
    assert np.array_equal(view["image"].data, exposure().data)
    assert (view["exposure"]["obs_id"], view["filter"], view["seeing"]) == ("T_1", "r_1", 0.7)
    assert mine.get("view.seeing", DATA_ID) == 0.7
    assert list(mine.get("view", DATA_ID, parameters={"components": ["filter"]})) == ["filter"]
    # A registered type has the rest from its file.
    found = mine.get("calexp", DATA_ID)
    assert found.wcs.wcs.crval[0] == 13.5
    assert np.array_equal(found.data, exposure().data)
    assert mine.get("calexp.wcs", DATA_ID).wcs.crval[0] == 13.5
    assert np.array_equal(mine.get("calexp.psf", DATA_ID), exposure().psf)
    assert butler.get("calexp", DATA_ID).wcs.wcs.crval[0] == 10.0, "who says nothing reads what is stored"
    with pytest.raises(DatasetNotFoundError, match="view: its component 'image'"):
        mine.get("view", instrument=INSTRUMENT, exposure=2)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"sources": {"wcs": {}}}, "a source has one of id, dataset, record, metadata, not none"),
        ({"sources": {"wcs": {"dataset": "a", "record": "b"}}}, "not dataset and record"),
        ({"sources": {"a b": {"dataset": "a"}}}, "cannot be the name of a component"),
        ({"sources": {"wcs": {"dataset": "a", "entry": "b"}}}, "of a dataset name a component"),
        ({"components": {"wcs": "Nonsense"}}, "unknown storage class 'Nonsense'"),
        ({"disasembled": True}, "unknown key 'dataset_types.calexp.disasembled'"),
    ],
)
def test_mistakes_in_the_configuration(butler: Butler, form: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Butler("parts", formats={"dataset_types": {"calexp": form}}, connection=butler.connection)


def test_hostile_manifests(butler: Butler) -> None:
    """Nobody is led in a circle, nor out of what they may read."""
    id_ = UUID(int=7)
    butler.register_dataset_type("loop", ["exposure"], "StructuredDataDict")
    circle = Manifest(delegate="mapping", python_type="dict", components={"a": Source(id=id_)})
    own = {"dataset_types": {"loop": {"formatter": "composite"}}}
    writer = Butler("parts", run="night", formats=own, connection=butler.connection)
    ref = writer.put(circle, "loop", DATA_ID)
    with pytest.raises(DatasetNotFoundError, match=f"a is the dataset {id_}"):
        butler.get(ref)
    twice = Manifest(delegate="mapping", python_type="dict", components={"a": Source(id=ref.id)})
    for number in (2, 3):
        ref = writer.put(twice, "loop", instrument=INSTRUMENT, exposure=number)
    nested = butler.put_composite({"a": ref}, "bag", DATA_ID)
    with pytest.raises(DatasetNotFoundError):
        butler.get(nested)
    with pytest.raises(FormatterError, match="unknown delegate 'os'"):
        butler.get(
            writer.put(
                Manifest(delegate="os", python_type="dict", components={"a": Source(id=id_)}), "loop", DATA_ID, run="r"
            )
        )


@pytest.mark.req("DMS-MWBT-REQ-0077")
@pytest.mark.req("DMS-MWBT-REQ-0078")
def test_exported_as_one_file(butler: Butler, tmp_path: Path) -> None:
    ref = butler.put(exposure(), "calexp", DATA_ID)
    target = tmp_path / "out"
    target.mkdir()
    path = butler.export_file("calexp", target, DATA_ID)
    assert path == str(target / f"calexp_{INSTRUMENT}_1.fits")
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "UNCERTAINTY", "PSF", "COMPONENTS"]
        assert hdus[0].header["DSUUID"] == str(ref.id)
        assert np.array_equal(hdus["IMAGE"].data, exposure().data)
        assert hdus["IMAGE"].header["CRVAL1"] == 10.0
        assert np.array_equal(hdus["PSF"].data, exposure().psf)
        listed = dict(zip(hdus["COMPONENTS"].data["COMPONENT"], hdus["COMPONENTS"].data["DATASET"], strict=True))
    assert listed["psf"] == str(butler.get_components(ref)["psf"].id)
    with h5py.File(butler.export_file(ref, target, format="hdf5")) as file:
        assert file.filename == str(target / f"calexp_{INSTRUMENT}_1.h5")
        assert np.array_equal(file["image/data"], exposure().data)
        assert np.array_equal(file["mask"], exposure().mask)
        assert file["image/data"].attrs["unit"] == "adu"
        assert json.loads(file["image"].attrs["header"])["OBJECT"] == "M31"
        assert file.attrs["DSTYPE"] == "calexp"
    butler.put({"stars": Table({"name": ["a", "b"]}), "notes": {"k": [1, 2]}}, "bag", DATA_ID)
    with fits.open(butler.export_file("bag", target, DATA_ID)) as hdus:
        assert list(hdus["STARS"].data["name"]) == ["a", "b"]
        assert json.loads(hdus["NOTES"].data["JSON"][0]) == {"k": [1, 2]}
    with pytest.raises(FileExistsError):
        butler.export_file(ref, target)
    words = ["get", "parts", "calexp", f"instrument={INSTRUMENT}", "exposure=1", "-c", "night", "--format", "fits"]
    refused = pantry(butler, *words, "-o", str(target))
    assert (refused.returncode, "exists already" in refused.stderr) == (1, True), refused.stderr
    done = pantry(butler, *words, "-o", str(target), "--force")
    assert done.stdout.strip() == path, done.stderr
    assert "needs a directory" in pantry(butler, *words).stderr
    with pytest.raises(FileNotFoundError, match=r"no such directory: '.*/nowhere'"):
        butler.export_file(ref, tmp_path / "nowhere")
    with pytest.raises(InvalidRequestError, match="unknown format 'zip'"):
        butler.export_file(ref, target, format="zip")  # type: ignore[arg-type]
    assert sorted(one.name for one in target.iterdir()) == [
        f"bag_{INSTRUMENT}_1.fits",
        f"calexp_{INSTRUMENT}_1.fits",
        f"calexp_{INSTRUMENT}_1.h5",
    ]
