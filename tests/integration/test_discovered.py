"""What a discovery service finds becomes datasets, whose files are read where they are, by HTTP from nginx."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import psycopg
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from tests.fault.proxy import Fault, FaultProxy
from tests.integration.command_line import pantry
from tests.servers.dachs import DachsServer
from tests.servers.mounting import PantryMount
from tests.servers.nginx import NginxServer
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, Circle, QueryService
from pantry.errors import (
    ConfigError,
    ConflictError,
    InvalidRequestError,
    MissingDatasetTypeError,
    NotCachedError,
    ObjectChangedError,
    PublishError,
    TransientBackendError,
)
from pantry.wire import operations as ops

SIDE = 2000
SIZE = SIDE * SIDE * 2
MAPPING: dict[str, Any] = {
    "dataset_type": "sky_image",
    "data_id": {
        "instrument": {"constant": "HillCam"},
        "visit": {"column": "obs_id", "pattern": r"-(\d+)$"},
        "physical_filter": {"column": "filter", "map": {"r": "r_1"}},
        "day_obs": {"day_of": "t_min"},
    },
    "records": {
        "day_obs": {},
        "visit": {
            "name": {"template": "{instrument_name}-{obs_id}"},
            "target_name": {"column": "target_name"},
            "exposure_time": {"column": "t_exptime"},
        },
    },
}


class Archive:
    """An archive of images behind nginx, whose traffic a proxy counts, and a repository that knows none of them."""

    def __init__(self, butler: Butler, daemon: PantryDaemon, proxy: FaultProxy, directory: Path) -> None:
        self.butler = butler
        self.daemon = daemon
        self.proxy = proxy
        self.directory = directory
        self.service = QueryService("sia", socket=daemon.socket)

    def add(self, number: int) -> dict[str, Any]:
        """Put an image into the archive; give its row."""
        pixels = np.full((SIDE, SIDE), number, dtype=np.int16)
        pixels[:, number] = 77
        path = self.directory / "images" / f"image {number}.fits"
        path.parent.mkdir(exist_ok=True)
        hdu = fits.PrimaryHDU(pixels)
        hdu.writeto(path)
        ra = 10.0 * number
        return self.row(
            number,
            s_ra=ra,
            s_region=f"Polygon ICRS {ra - 0.1} -0.1 {ra + 0.1} -0.1 {ra + 0.1} 0.1 {ra - 0.1} 0.1",
        )

    def row(self, number: int, **other: Any) -> dict[str, Any]:
        begin = Time("2026-03-15T03:00:00", scale="utc").mjd + number / 1000
        made = {
            "obs_publisher_did": f"ivo://hill.test/~?images/{number}",
            "obs_id": f"hill-{number}",
            "access_url": f"{self.proxy.endpoint_url}/{self.directory.name}/images/image%20{number}.fits",
            "access_format": "image/fits",
            "access_estsize": 1,
            "dataproduct_type": "image",
            "instrument_name": "Hill",
            "target_name": f"Field {number}",
            "filter": "r",
            "s_ra": 0.0,
            "s_dec": 0.0,
            "s_fov": 0.3,
            "s_region": "",
            "t_min": begin,
            "t_max": begin + 30 / 86400,
            "t_exptime": 30.0,
        }
        return made | other

    def answers(self, *rows: dict[str, Any]) -> None:
        """Let the service answer with rows, whatever it is asked."""
        Table(rows=list(rows)).write(self.directory / "sia.xml", format="votable", overwrite=True)

    def ingest(self, *rows: Mapping[str, Any], mapping: Mapping[str, Any] = MAPPING, run: str = "hill") -> Any:
        return self.butler.ingest_discovered(rows, mapping, run=run)

    def found(self) -> list[int]:
        return sorted(int(ref.data_id["visit"]) for ref in self.butler.query_datasets("sky_image", "hill"))


@pytest.fixture
def archive(make_daemon: Callable[..., PantryDaemon], nginx: NginxServer, tmp_path: Path) -> Iterator[Archive]:
    directory = nginx.files / tmp_path.name
    directory.mkdir()
    with FaultProxy(("127.0.0.1", nginx.port)) as proxy:
        root = f"{proxy.endpoint_url}/{tmp_path.name}"
        daemon = make_daemon(
            {
                "prefixes": {
                    "hill": {"root": f"{root}/images", "readers": ["*"]},
                    "closed": {"root": f"{root}/images/closed"},
                },
                "services": {"sia": {"root": f"sia2+{root}/sia.xml", "readers": ["*"]}},
                "queries": {
                    "images": {"service": "sia", "text": "POS = :region", "parameters": {"region": {"type": "circle"}}}
                },
                "cache": {"chunk_bytes": 1 << 18},
            }
        )
        butler = Butler.create("demo", str(daemon.directory / "demo"), socket=daemon.socket)
        butler.insert_dimension_records("instrument", {"name": "HillCam"})
        butler.insert_dimension_records("physical_filter", {"instrument": "HillCam", "name": "r_1", "band": "r"})
        butler.register_dataset_type("sky_image", ["visit"], "CCDData")
        yield Archive(butler, daemon, proxy, directory)
        butler.close()
    shutil.rmtree(directory)


def test_from_a_search_to_a_cut_out(archive: Archive) -> None:
    """Asked by region, registered, found by region and time, read, a part of it with a part of the bytes, mounted."""
    butler, proxy = archive.butler, archive.proxy
    archive.answers(*[archive.add(number) for number in (1, 2, 3)])
    rows = archive.service.ask("images", region=Circle(ra=10.0, dec=0.0, radius=5.0))
    done = butler.ingest_discovered(rows, MAPPING, run="hill")
    assert (len(done.ids), done.present, done.refused, done.without_region) == (3, 0, {}, 0)
    assert done.dimension_records == 4
    assert done.ids["ivo://hill.test/~?images/2"] == uuid5(NAMESPACE_URL, "ivo://hill.test/~?images/2")
    assert proxy.count("GET") == 1, "nothing but the search itself was read"

    near = "visit.region OVERLAPS CIRCLE(20.0, 0.0, 0.01)"
    (ref,) = butler.query_datasets("sky_image", "hill", where=near, instrument="HillCam")
    assert (ref.id, ref.data_id["visit"]) == (done.ids["ivo://hill.test/~?images/2"], 2)
    (record,) = butler.query_dimension_records("visit", where=near, instrument="HillCam")
    assert (record.values["name"], record.values["target_name"], record.values["day_obs"]) == (
        "Hill-hill-2", "Field 2", 20260314,
    )  # fmt: skip
    begin = Time("2026-03-15T03:02:52.8", scale="utc")
    assert record.timespan is not None
    assert abs(record.timespan.begin_ns / 1e9 - begin.unix_tai) < 1e-4, "UTC became TAI"
    assert abs(record.timespan.end_ns - record.timespan.begin_ns - 30e9) < 1e5

    proxy.clear()
    part = butler.get(ref, parameters={"bbox": (0, 100, 50, 130)})
    assert part.data.shape == (30, 50)
    assert set(np.unique(part.data)) == {2, 77}
    came = butler.connection.call(ops.GetCacheStatus()).fetched_bytes
    assert 0 < came < SIZE / 4
    assert proxy.bytes_answered() < SIZE / 4
    image = butler.get("sky_image", instrument="HillCam", visit=3, collections="hill")
    assert image.data.shape == (SIDE, SIDE)
    assert image.data[5, 3] == 77

    proxy.clear()
    with PantryMount(archive.daemon.socket, archive.daemon.directory / "mnt") as mount:
        path = mount.directory / "demo/hill/sky_image/HillCam/sky_image_HillCam_3.fits"
        assert path.stat().st_size == (archive.directory / "images/image 3.fits").stat().st_size
        assert path.read_bytes() == (archive.directory / "images/image 3.fits").read_bytes()
        assert os.getxattr(path, "user.pantry.origin").decode().endswith("/images/image%203.fits")
    assert proxy.count() == 0, "the version is known, and the file was there"
    (staged,) = butler.stage([ref], archive.daemon.directory / "staged").paths
    assert Path(staged).read_bytes() == (archive.directory / "images/image 2.fits").read_bytes()


def test_asked_again_it_passes_over_what_is_there(archive: Archive) -> None:
    first = [archive.add(number) for number in (1, 2)]
    assert len(archive.ingest(*first).ids) == 2
    archive.proxy.clear()
    again = archive.ingest(*first)
    assert (again.ids, again.present, again.dimension_records) == ({}, 2, 0)
    assert archive.proxy.count() == 0
    more = archive.ingest(*first, archive.add(3), first[0])
    assert (list(more.ids), more.present) == (["ivo://hill.test/~?images/3"], 2)
    assert archive.found() == [1, 2, 3]
    moved = archive.row(9, obs_publisher_did=first[0]["obs_publisher_did"])
    with pytest.raises(ConflictError):
        archive.ingest(moved)


def test_what_is_refused_and_why(archive: Archive, nginx: NginxServer) -> None:
    good = archive.add(1)
    elsewhere = f"http://localhost:{nginx.port}/secret.fits"
    beside = good["access_url"].replace("/images/", "/other/")
    out = good["access_url"].replace("/images/", "/images/../")
    encoded = good["access_url"].replace("/images/", "/images/%2e%2e/")
    wrong = {
        "a": {"access_url": ""},
        "b": {"access_format": 'application/x-votable+xml;content="datalink"'},
        "c": {"access_url": elsewhere},
        "d": {"access_url": beside},
        "e": {"access_url": out},
        "f": {"access_url": encoded},
        "g": {"access_url": "file:///etc/passwd"},
        "h": {"access_url": good["access_url"] + "?ID=1&token=s3cret"},
        "i": {"access_url": good["access_url"].replace("http://", "http://me:s3cret@")},
        "j": {"obs_id": "nothing"},
        "k": {"t_min": float("nan")},
        "l": {"access_url": good["access_url"].replace("image%201", "no%20such")},
        "m": {"target_name": "x" * 65},
        "n": {"filter": ""},
        "o": {"access_url": "http://169.254.169.254/latest/meta-data"},
        "p": {"access_url": "http://[::1"},
    }
    rows = [
        archive.row(10 + number, obs_publisher_did=f"ivo://x/{name}", **{"access_url": good["access_url"]} | how)
        for number, (name, how) in enumerate(wrong.items())
    ]
    twice = [archive.row(7, obs_publisher_did="ivo://x/twice"), archive.row(8, obs_publisher_did="ivo://x/twice")]
    same = [archive.row(6, obs_publisher_did=f"ivo://x/same{number}") for number in (1, 2)]
    archive.proxy.clear()
    done = archive.ingest(good, *rows, *twice, *same, archive.row(5, obs_publisher_did=None))
    assert list(done.ids) == [good["obs_publisher_did"]]
    said = {did.removeprefix("ivo://x/"): reason for did, reason in done.refused.items()}
    expected = {
        "a": "no access_url", "b": "datalink", "c": "below no root", "d": "below no root", "e": "'..'", "f": "'..'",
        "g": "only http", "h": "query or fragment", "i": "user or password", "j": "without the pattern",
        "k": "nothing says which day_obs", "l": "no object", "m": "longer than 64", "n": "nothing says which physical_",
        "o": "below no root", "p": "no URL", "twice": "something else", "row 22": "no obs_publisher_did",
        "same1": "also that of", "same2": "also that of",
    }  # fmt: skip
    assert {name: text in said.get(name, "") for name, text in expected.items()} == dict.fromkeys(expected, True), said
    assert said.keys() == expected.keys()
    assert "s3cret" not in str(done.refused) + archive.daemon.log.read_text()
    assert archive.proxy.count() == 2, "only files below the root are asked for"
    assert archive.found() == [1]
    only = archive.ingest(archive.row(2), mapping=MAPPING | {"formats": ["application/fits"]})
    assert list(only.refused.values()) == ["the access_format is image/fits"]


def test_nothing_is_half_done_when_the_archive_fails(archive: Archive) -> None:
    rows = [archive.add(number) for number in range(1, 6)]
    archive.proxy.inject(Fault(method="HEAD", status=503, skip=3, times=-1))
    with pytest.raises(TransientBackendError):
        archive.ingest(*rows)
    assert archive.butler.collections.query("hill*") == []
    assert list(archive.butler.query_dimension_records("visit", instrument="HillCam")) == []
    archive.proxy.clear()
    assert len(archive.ingest(*rows).ids) == 5


def test_a_file_that_was_replaced_is_not_read(archive: Archive) -> None:
    archive.ingest(archive.add(1), archive.add(2))
    for number in (1, 2):
        path = archive.directory / f"images/image {number}.fits"
        status = path.stat()
        fits.PrimaryHDU(np.zeros((SIDE, SIDE), dtype=np.int16)).writeto(path, overwrite=True)
        os.utime(path, (status.st_atime, status.st_mtime + 10))
    with pytest.raises(ObjectChangedError, match="registered"):
        archive.butler.get("sky_image", instrument="HillCam", visit=1, collections="hill")
    assert archive.ingest(archive.row(1)).present == 1
    (ref,) = archive.butler.query_datasets("sky_image", "hill", instrument="HillCam", visit=1)
    archive.butler.delete([ref])
    assert (archive.directory / "images/image 1.fits").exists(), "the archive's files are never ours to delete"
    archive.ingest(archive.row(1))
    image = archive.butler.get("sky_image", instrument="HillCam", visit=1, collections="hill")
    assert not image.data.any()


def test_what_is_cached_reads_without_the_archive(archive: Archive) -> None:
    archive.ingest(archive.add(1), archive.add(2))
    assert archive.butler.get("sky_image", instrument="HillCam", visit=1, collections="hill").data[0, 1] == 77
    archive.butler.connection.call(ops.SetOffline(offline=True))
    assert archive.butler.get("sky_image", instrument="HillCam", visit=1, collections="hill").data[0, 1] == 77
    with pytest.raises(TransientBackendError, match="offline"):
        archive.butler.get("sky_image", instrument="HillCam", visit=2, collections="hill")
    archive.butler.connection.call(ops.SetOffline(offline=False))
    archive.proxy.clear()
    strict = Butler("demo", collections="hill", missing="error", socket=archive.daemon.socket)
    with pytest.raises(NotCachedError, match="visit=2|_2"):
        strict.get("sky_image", instrument="HillCam", visit=2)
    assert strict.get("sky_image", instrument="HillCam", visit=1).data[0, 1] == 77
    assert archive.proxy.count() == 0, "nothing is fetched where a missing file is an error"
    archive.daemon.stop()
    archive.daemon.start()
    archive.proxy.clear()
    assert archive.butler.get("sky_image", instrument="HillCam", visit=1, collections="hill").data[0, 1] == 77
    assert archive.proxy.count() == 0


def test_a_subset_has_a_copy_of_the_files(archive: Archive) -> None:
    archive.ingest(archive.add(1))
    refs = list(archive.butler.query_datasets("sky_image", "hill"))
    root = archive.daemon.directory / "part"
    archive.butler.subset(refs, "part", root)
    part = Butler("part", collections="hill", socket=archive.daemon.socket)
    archive.proxy.clear()
    assert part.get("sky_image", instrument="HillCam", visit=1).data[0, 1] == 77
    assert [path.name for path in root.rglob("*.fits")] == ["sky_image_HillCam_1.fits"]


def test_a_view_reads_them_as_its_holder_does(archive: Archive) -> None:
    archive.ingest(archive.add(1))
    refs = list(archive.butler.query_datasets("sky_image", "hill"))
    archive.butler.create_view(refs, "part", archive.daemon.directory / "part")
    part = Butler("part", collections="hill", socket=archive.daemon.socket)
    assert part.get("sky_image", instrument="HillCam", visit=1).data[0, 1] == 77
    (ref,) = part.query_datasets("sky_image")
    for butler in (part, archive.butler):
        asked = ops.DescribeFiles(repository=butler.repository, dataset_type="sky_image", ids=ref.id.bytes)
        described = butler.connection.call(asked)
        assert described.paths == [f"{archive.proxy.endpoint_url}/{archive.directory.name}/images/image%201.fits"]
        assert described.names[0].endswith("sky_image_HillCam_1.fits")
    part.subset([ref], "copied", archive.daemon.directory / "copied")
    assert Butler("copied", collections="hill", socket=archive.daemon.socket).get(ref).data[0, 1] == 77


def test_what_needs_the_content_says_that_nobody_knows_it(archive: Archive) -> None:
    archive.ingest(archive.add(1))
    with pytest.raises(InvalidRequestError, match="another archive"):
        archive.butler.prefetch("sky_image", collections="hill")
    pinned = pantry(archive.butler, "cache", "pin", "demo", "sky_image", "-c", "hill")
    assert "lies in another archive" in pinned.stderr
    archive.daemon.stop()
    archive.daemon.config["publish"] = {"qa": {"url": "http://127.0.0.1:1/{id}", "dataset_types": ["*"]}}
    archive.daemon.expected_log = ("publish",)
    archive.daemon.start()
    with pytest.raises(PublishError, match="its file is http"):
        archive.butler.publish(list(archive.butler.query_datasets("sky_image", "hill")), "qa", wait=True)


def test_a_repository_goes_and_the_archive_stays(archive: Archive) -> None:
    archive.ingest(archive.add(1), archive.add(2))
    archive.proxy.clear()
    Butler.remove_repository("demo", socket=archive.daemon.socket)
    assert len(list((archive.directory / "images").iterdir())) == 2
    assert archive.proxy.count() == 0
    assert not (archive.daemon.directory / "demo").exists()


def test_no_request_is_believed(archive: Archive) -> None:
    """The daemon checks again what the client would never send."""
    row = archive.add(1)
    archive.ingest(row)
    for url, text in (
        ("http://127.0.0.1:1/x.fits", "below no root"),
        (row["access_url"] + "?x", "query"),
        ("/etc/passwd", "only http"),
        (f"@x@{row['access_url']}", "only http"),
    ):
        request = ops.ImportDatasets(
            repository="demo", dataset_type="sky_image", run="hill2", transfer="direct",
            dimensions=("instrument", "visit"), items=(ops.ImportItem(url, ("HillCam", 1)),), ids=bytes(15) + b"x",
        )  # fmt: skip
        with pytest.raises(InvalidRequestError, match=text):
            archive.butler.connection.call(request)
    with pytest.raises(InvalidRequestError, match="1 to 500"):
        archive.butler.connection.call(ops.LocateObjects(urls=()))
    (located,) = archive.butler.connection.call(ops.LocateObjects(urls=("http://127.0.0.1:1/x",))).objects
    assert "below no root" in located.problem


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"dataset_type": "no_such"}, "no_such"),
        ({"data_id": {"instrument": {"constant": "HillCam"}}}, "needs visit"),
        ({"data_id": MAPPING["data_id"] | {"nothing": {"constant": 1}}}, "data_id.nothing"),
        ({"data_id": MAPPING["data_id"] | {"visit": {}}}, "needs one of"),
        ({"data_id": MAPPING["data_id"] | {"visit": {"column": "obs_id", "pattern": "["}}}, "visit.pattern"),
        ({"data_id": MAPPING["data_id"] | {"visit": {"column": "obs_id", "pattern": "x"}}}, "group"),
        ({"data_id": MAPPING["data_id"] | {"visit": {"colum": "obs_id"}}}, "unknown key 'data_id.visit.colum'"),
        ({"records": {"visit": {"speed": {"column": "x"}}}}, "records.visit.speed"),
        ({"records": {"visit": {"name": {"colum": "x"}}}}, "unknown key 'records.visit.name.colum'"),
        ({"records": {"patch": {}}}, "needs data_id"),
        ({"records": {"htm7": {}}}, "records.htm7"),
        ({"columns": {"where": "x"}}, "columns.where"),
        ({"time_scale": "gps"}, "time_scale"),
    ],
)
def test_mistakes_in_a_mapping(archive: Archive, wrong: dict[str, Any], text: str) -> None:
    with pytest.raises((ConfigError, MissingDatasetTypeError), match=text):
        archive.ingest(archive.row(1), mapping=MAPPING | wrong)
    assert archive.butler.collections.query("hill*") == []


def test_from_the_command_line(archive: Archive) -> None:
    archive.answers(archive.add(1), archive.row(2, access_url="http://example.org/x.fits"))
    mapping = archive.daemon.directory / "hill.yaml"
    mapping.write_text(
        "dataset_type: sky_image\n"
        "data_id:\n"
        "  instrument: {constant: HillCam}\n"
        "  visit: {column: obs_id, pattern: '-(\\d+)$'}\n"
        "  physical_filter: {constant: r_1}\n"
        "  day_obs: {day_of: t_min}\n"
        "records:\n"
        "  day_obs: {}\n"
        "  visit: {name: {column: obs_id}}\n"
    )
    words = ("ingest-discovered", "demo", str(mapping), "images", "region=10,0,1", "--run", "hill")
    done = pantry(archive.butler, *words)
    assert done.returncode == 1, done.stderr
    assert "1 datasets registered in hill, 0 were there, 1 refused" in done.stderr
    assert "example.org/x.fits is below no root" in done.stderr
    assert "0 datasets registered in hill, 1 were there" in pantry(archive.butler, *words).stderr
    assert archive.found() == [1]
    assert "no query" in pantry(archive.butler, "ingest-discovered", "demo", str(mapping), "x", "--run", "h").stderr


OPEN = """
import sys
from pantry.client.connection import connect
from pantry.errors import PantryError
from pantry.wire import operations as ops
connection = connect(sys.argv[1])
url = sys.argv[2]
data_id = {"instrument": "HillCam", "visit": 1}
for one in (
    ops.OpenDataset(repository="demo", dataset_type="sky_image", data_id=data_id, collections=("hill",)),
    ops.ImportDatasets(
        repository="demo", dataset_type="sky_image", run="mine", transfer="direct", dimensions=("instrument", "visit"),
        items=(ops.ImportItem(url, ("HillCam", 1)),), ids=bytes(15) + b"x",
    ),
    ops.LocateObjects(urls=(url,)),
):
    try:
        print(getattr(connection.call(one), "objects", "allowed"))
    except PantryError as exc:
        print(exc.code, exc.message)
"""


def test_who_may_not_read_the_archive_reads_nothing_of_it(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], nginx: NginxServer, tmp_path: Path
) -> None:
    """That somebody may write to a repository gives nobody the node's access to an archive, nor what is cached."""
    may, may_not = 40001, 40002
    directory = nginx.files / tmp_path.name / "images"
    directory.mkdir(parents=True)
    root = f"{nginx.endpoint_url}/private/{tmp_path.name}/images"
    daemon = make_daemon(
        {
            "storage": [{"match": f"{nginx.endpoint_url}/private/", "options": {"token": nginx.token}}],
            "prefixes": {"hill": {"root": root, "readers": [str(may)]}},
        },
        system=True,
    )
    both = [str(may), str(may_not)]
    repository = str(daemon.directory / "demo")
    butler = Butler.create("demo", repository, readers=both, writers=both, socket=daemon.socket)
    butler.insert_dimension_records("instrument", {"name": "HillCam"})
    butler.insert_dimension_records("physical_filter", {"instrument": "HillCam", "name": "r_1", "band": "r"})
    butler.register_dataset_type("sky_image", ["visit"], "CCDData")
    with FaultProxy(("127.0.0.1", nginx.port)) as proxy:
        row = Archive(butler, daemon, proxy, directory.parent).add(1)
    row["access_url"] = f"{root}/image%201.fits"
    assert len(butler.ingest_discovered([row], MAPPING, run="hill").ids) == 1
    assert butler.get("sky_image", instrument="HillCam", visit=1, collections="hill").data[0, 1] == 77
    refused = run_as(may_not, OPEN, daemon.socket, row["access_url"]).stdout.splitlines()
    assert [line.split()[0] for line in refused[:2]] == ["permission_denied"] * 2
    assert "may not read the prefix 'hill'" in refused[2]
    assert "size_bytes=0" in refused[2]
    allowed = run_as(may, OPEN, daemon.socket, row["access_url"]).stdout.splitlines()
    assert [line.split()[0] for line in allowed] == ["allowed", "allowed", f"(LocatedObject(url='{row['access_url']}',"]
    butler.close()
    shutil.rmtree(directory.parent)


@pytest.mark.soak
def test_from_dachs(archive: Archive, dachs: DachsServer) -> None:
    """ObsCore by TAP, and the same by SIA 2, from a real server; both mean the same datasets."""
    rows = [archive.add(number) for number in (1, 2, 3)]
    url = dachs.postgresql.url("gavo").replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.cursor().executemany(
            "INSERT INTO cat.images (image_id, url, ra, dec, mjd) VALUES (%s, %s, %s, %s, %s)",
            [(row["obs_id"], row["access_url"], row["s_ra"], 0.0, row["t_min"]) for row in rows],
        )
    text = "SELECT * FROM ivoa.obscore WHERE 1 = CONTAINS(POINT('ICRS', s_ra, s_dec), :region)"
    service = {"root": f"tap+{dachs.tap_url}", "readers": ["*"]}
    sia = {"root": f"sia2+{dachs.url}/__system__/siap2/sitewide/siap2.xml", "readers": ["*"]}
    region = {"parameters": {"region": {"type": "circle"}}}
    archive.daemon.stop()
    archive.daemon.config["services"] |= {"tap": service, "sia": sia}
    archive.daemon.config["queries"] = {
        "obscore": {"service": "tap", "text": text, **region},
        # By time: DaCHS compares positions with the coverage, which its table has not.
        "images": {"service": "sia", "text": "TIME = :mjd", "parameters": {"mjd": {"type": "text"}}},
    }
    archive.daemon.start()
    mapping = MAPPING | {
        "data_id": MAPPING["data_id"] | {"physical_filter": {"constant": "r_1"}},
        "records": {"day_obs": {}, "visit": {"name": {"column": "obs_id"}, "target_name": {"column": "target_name"}}},
    }
    try:
        around = Circle(ra=15.0, dec=0.0, radius=6.0)
        done = archive.butler.ingest_discovered(archive.service.ask("obscore", region=around), mapping, run="hill")
        assert (sorted(done.ids), done.refused) == (
            ["ivo://x-test.local/~?hill-1", "ivo://x-test.local/~?hill-2"], {},
        )  # fmt: skip
        again = archive.butler.ingest_discovered(archive.service.ask("images", mjd="61114 61115"), mapping, run="hill")
        assert (sorted(again.ids), again.present, again.refused) == (["ivo://x-test.local/~?hill-3"], 2, {})
    finally:
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM cat.images")
    near = "visit.region OVERLAPS CIRCLE(20.0, 0.0, 0.01)"
    (ref,) = archive.butler.query_datasets("sky_image", "hill", where=near, instrument="HillCam")
    part = archive.butler.get(ref, parameters={"bbox": (0, 0, 10, 10)})
    assert part.data[0].tolist() == [2, 2, 77, 2, 2, 2, 2, 2, 2, 2]
    assert archive.butler.connection.call(ops.GetCacheStatus()).fetched_bytes < SIZE / 4
