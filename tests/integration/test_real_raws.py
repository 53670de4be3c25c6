"""The main job on real files: raws of three instruments into S3, cached, mounted, identical by every door."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.client.instruments import translate


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pantry(socket: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PANTRY_SOCKET": socket}
    argv = [sys.executable, "-m", "pantry.client.cli.main", *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.mark.req("DMS-MWBT-REQ-0008")
@pytest.mark.req("DMS-MWBT-REQ-0022")
@pytest.mark.req("DMS-MWBT-REQ-0031")
@pytest.mark.req("DMS-MWBT-REQ-0049")
def test_every_real_raw_is_byte_identical_by_every_door(
    rubin_data: Path,
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    seaweed: SeaweedServer,
    s3_root: str,
    short_dir: Path,
) -> None:
    raws = sorted(rubin_data.glob("*/raw/**/*.fits"))
    assert {path.relative_to(rubin_data).parts[0] for path in raws} == {"latiss", "comCam", "imsim"}
    daemon = make_daemon(storage_config)
    pantry(daemon.socket, "repo", "create", "rubin", s3_root)
    pantry(daemon.socket, "ingest-raws", "rubin", *[str(path) for path in raws], "--run", "raw/all")

    butler = Butler("rubin", collections="raw/all", socket=daemon.socket)
    refs = butler.query_datasets("raw")
    assert len(refs) == len(raws)
    # Real cameras and a simulated one, each with its own detectors and filters.
    instruments = {"LATISS", "LSSTComCam", "LSSTCam-imSim"}
    assert {ref.data_id["instrument"] for ref in refs} == instruments
    for instrument in instruments:
        own = butler.query_datasets("raw", where="instrument = :name", bind={"name": instrument})
        assert {ref.id for ref in own} == {ref.id for ref in refs if ref.data_id["instrument"] == instrument}
        assert butler.query_dimension_records("detector", where="instrument = :name", bind={"name": instrument})

    bucket, prefix = s3_root.removeprefix("s3://").split("/", 1)
    staged = {path.name: path for path in butler.stage(refs, short_dir / "staged").paths}
    client = seaweed.client()
    with PantryMount(daemon.socket, short_dir / "mnt") as mount:
        mounted = {path.name: path for path in (mount.directory / "rubin").rglob("*.fits")}
        assert mounted.keys() == staged.keys()
        for raw in raws:
            data_id = translate(raw).data_id
            expected = sha(raw)
            ref = butler.find_dataset("raw", data_id)
            assert ref is not None
            name = f"raw_{data_id['instrument']}_{data_id['exposure']}_{data_id['detector']}.fits"
            key = f"{prefix}/raw/all/raw/{data_id['instrument']}/{data_id['exposure']}/{name}"
            with client.get_object(Bucket=bucket, Key=key)["Body"] as body:
                assert hashlib.sha256(body.read()).hexdigest() == expected
            assert sha(staged[name]) == expected
            assert sha(mounted[name]) == expected
            assert mounted[name].relative_to(mount.directory / "rubin") == staged[name].relative_to(
                short_dir / "staged"
            )
            with butler.open(ref) as file:
                assert hashlib.sha256(file.read()).hexdigest() == expected
            fetched = short_dir / "by-command.fits"
            fetched.unlink(missing_ok=True)
            words = [f"{name}={value}" for name, value in data_id.items()]
            pantry(daemon.socket, "get", "rubin", "raw", *words, "--collections", "raw/all", "--output", str(fetched))
            assert sha(fetched) == expected
            check_opens_through_the_mount(mounted[name], raw)
    client.close()


def check_opens_through_the_mount(mounted: Path, raw: Path) -> None:
    with fits.open(mounted) as through, fits.open(raw) as original:
        assert [hdu.name for hdu in through] == [hdu.name for hdu in original]
        assert through[0].header == original[0].header
        assert (through[1].data == original[1].data).all()
    by_mount = subprocess.run(["fitsverify", "-q", str(mounted)], capture_output=True, text=True, check=False)
    by_disk = subprocess.run(["fitsverify", "-q", str(raw)], capture_output=True, text=True, check=False)
    # Some of the real files have faults of their own; nothing may be added to them.
    assert by_mount.stdout.replace(str(mounted), "") == by_disk.stdout.replace(str(raw), "")


def test_simulated_raws_verify_through_the_mount(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str, short_dir: Path
) -> None:
    from pantry.client.simulation import simulate_observing_night

    night = short_dir / "night"
    night.mkdir()
    raws = list(simulate_observing_night(night, 2, [93, 94], amplifier_shape=(64, 128)))
    daemon = make_daemon(storage_config)
    pantry(daemon.socket, "repo", "create", "sim", s3_root)
    pantry(daemon.socket, "ingest-raws", "sim", *[str(path) for path in raws], "--run", "raw/all")
    listing = pantry(daemon.socket, "query-datasets", "sim", "raw", "--collections", "raw/all", "--json")
    assert len(json.loads(listing.stdout)) == len(raws)
    with PantryMount(daemon.socket, short_dir / "mnt") as mount:
        mounted = sorted((mount.directory / "sim").rglob("*.fits"))
        assert len(mounted) == len(raws)
        for path in mounted:
            done = subprocess.run(["fitsverify", "-q", str(path)], capture_output=True, text=True, check=False)
            assert "verification OK" in done.stdout, done.stdout


@pytest.mark.req("DMS-MWBT-REQ-0049")
def test_headers_of_packed_raws_are_read_from_partly_cached_files(
    rubin_data: Path, make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str
) -> None:
    """The raws of LATISS and ComCam are gzip data by the name of .fits."""
    raws = sorted(rubin_data.glob("*/raw/**/*.fits"))
    daemon = make_daemon(storage_config)
    pantry(daemon.socket, "repo", "create", "packed", s3_root)
    pantry(daemon.socket, "ingest-raws", "packed", *[str(path) for path in raws], "--run", "raw/all")
    with Butler("packed", collections="raw/all", socket=daemon.socket) as butler:
        for raw in raws:
            metadata = butler.get("raw.metadata", translate(raw).data_id)
            assert metadata["OBSID"] == fits.getheader(raw)["OBSID"]
            with butler.get("raw", translate(raw).data_id) as hdus:
                assert len(hdus) >= 17


@pytest.mark.req("DMS-MWBT-REQ-0050")
def test_raws_of_attached_gen3_repositories_have_visit_metadata(
    rubin_data: Path, make_daemon: Callable[..., PantryDaemon]
) -> None:
    daemon = make_daemon()
    for name, exposure in (("latiss", 3018092000065), ("comCam", 3019053000001), ("imsim", 204595)):
        pantry(daemon.socket, "repo", "attach", name, str(rubin_data / name))
        with Butler(name, socket=daemon.socket) as butler:
            (ref,) = butler.query_datasets("raw", "*/raw/all")
            assert ref.data_id["exposure"] == exposure
            info = butler.get_deferred(ref).get(component="visitInfo")
            assert (info.exposure_id, info.instrument) == (exposure, ref.data_id["instrument"])
            with butler.get(ref) as hdus:
                assert len(hdus) >= 17
