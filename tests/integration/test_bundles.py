"""Bundles, made by a real daemon and used where there is none: the same answers, and outputs that come back."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from astropy.table import Table
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.isolated import run_isolated
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, DatasetRef
from pantry.errors import (
    ConflictError,
    DataIdValueError,
    DatasetExistsError,
    DatasetNotFoundError,
    DimensionNameError,
    IntegrityError,
    InvalidQueryError,
    InvalidRequestError,
    NotFoundError,
    PantryError,
    PermissionDeniedError,
)
from pantry.model.collections import CollectionType
from pantry.model.provenance import Quantum, QuantumStatus

DAY_NS = 86_400_000_000_000
START_NS = 20527 * DAY_NS
"""2026-03-15 TAI."""


def fill(butler: Butler) -> list[DatasetRef]:
    """Put images, catalogues, configurations and calibrations of ten exposures into a repository."""
    furnish(butler, n_exposures=0)
    butler.insert_dimension_records("physical_filter", {"instrument": INSTRUMENT, "name": "g_1", "band": "g"})
    for number in range(1, 11):
        begin = START_NS + number * DAY_NS
        butler.insert_dimension_records(
            "exposure",
            {
                "instrument": INSTRUMENT,
                "id": number,
                "obs_id": f"T_{number}",
                "physical_filter": "r_1" if number % 2 else "g_1",
                "day_obs": 20260315,
                "group": "g",
                "exposure_time": 30.0,
                "timespan": (begin, begin + 1_000_000_000),
            },
        )
    butler.register_dataset_type("image", ["exposure", "detector"], "FitsArray", metadata=["peak:float=PEAK"])
    butler.register_dataset_type("stars", ["exposure"], "ArrowAstropy")
    butler.register_dataset_type("bias", ["instrument", "detector"], "StructuredDataDict", is_calibration=True)
    refs = []
    for number in range(1, 11):
        at = {"instrument": INSTRUMENT, "exposure": number}
        pixels = np.arange(3000, dtype=np.float32).reshape(50, 60) + number
        refs.append(butler.put(pixels, "image", at, detector=0, run="u/one"))
        refs.append(butler.put(Table({"ra": [1.0 * number, 2.0], "n": [1, 2]}), "stars", at, run="u/one"))
        refs.append(butler.put({"n": number}, "config", at, run="u/one"))
    refs.append(butler.put({"n": 100}, "config", instrument=INSTRUMENT, exposure=1, run="u/two"))
    biases = [butler.put({"from": run}, "bias", instrument=INSTRUMENT, detector=0, run=run) for run in ("b/1", "b/2")]
    butler.collections.register("calib", CollectionType.CALIBRATION)
    butler.certify("calib", biases[:1], (None, START_NS + 5 * DAY_NS))
    butler.certify("calib", biases[1:], (START_NS + 5 * DAY_NS, None))
    butler.collections.register("best", CollectionType.TAGGED)
    butler.associate("best", [refs[2], refs[5]])
    butler.collections.register("all", CollectionType.CHAINED)
    butler.collections.redefine_chain("all", ["u/two", "best", "u/one", "calib"])
    return [*refs, *biases]


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    with Butler.create("d", str(short_dir / "repo"), socket=make_daemon().socket) as made:
        yield made


@pytest.fixture
def refs(butler: Butler) -> list[DatasetRef]:
    return fill(butler)


@pytest.fixture
def directory(butler: Butler, refs: list[DatasetRef], short_dir: Path) -> Path:
    """A bundle of everything."""
    more = [{"instrument": INSTRUMENT, "detector": 1}]
    done = butler.create_bundle(refs, short_dir / "bundle", collections="all", run="u/out", data_ids=more)
    assert done.datasets == 33
    return short_dir / "bundle"


@pytest.fixture
def bundle(directory: Path) -> Iterator[Butler]:
    with Butler.from_bundle(directory) as opened:
        yield opened


ALONE = """
import json, sys
import numpy as np
from pantry.client import Butler
from pantry.model.provenance import Quantum
from uuid import UUID
butler = Butler.from_bundle(sys.argv[1])
at = {"instrument": "TestCam", "exposure": 3}
image = butler.get("image", at, detector=0)
part = butler.get("image", at, detector=0, parameters={"bbox": (5, 6, 15, 16)})
stars = butler.get("stars", at, parameters={"columns": ["ra"]})
late = butler.get_deferred("config", at)
answers = {
    "image": [image.shape, float(image.sum())],
    "part": [part.shape, float(np.asarray(part).sum())],
    "stars": [stars.colnames, list(stars["ra"])],
    "config": late.get(),
    "first of the chain": butler.get("config", instrument="TestCam", exposure=1),
    "bias": [butler.get("bias", instrument="TestCam", detector=0, exposure=n)["from"] for n in (4, 6)],
    "exists": [butler.exists("config", at), butler.exists("config", at, collections="u/two")],
    "stored": len(butler.query_datasets("image", data_id={"band": "g"})),
    "peak": butler.get_metadata("image", at, detector=0),
}
made = [
    butler.put(image * 2, "image", at, detector=1),
    butler.put({"made": "here"}, "config", at),
    butler.put_file(open(__file__ if "__file__" in globals() else "/proc/self/cmdline", "rb"), "blob", at, detector=0),
]
butler.register_dataset_type("summary", ["exposure"], "StructuredDataDict")
made.append(butler.put({"sum": 1.5}, "summary", at))
inputs = butler.query_datasets(["image", "config"], "u/one", data_id=at)
butler.record_quanta([Quantum(id=UUID(int=5), task="double", run="u/out", data_id=at,
    predicted_inputs=tuple(ref.id for ref in inputs), actual_inputs=(inputs[0].id,),
    outputs=tuple(ref.id for ref in made), status="successful")])
answers["doubled"] = float(butler.get(made[0]).sum())
answers["made of"] = [relative.ref.dataset_type.name for relative in butler.ancestors(made[3])]
answers["ids"] = [str(ref.id) for ref in made]
with butler.open("config", at, collections="u/out") as file:
    answers["file"] = file.read().decode()
print(json.dumps(answers))
"""


@pytest.mark.req("DMS-MWBT-REQ-0053")
@pytest.mark.req("DMS-MWBT-REQ-0079")
def test_a_job_that_has_nothing_but_its_bundle(butler: Butler, directory: Path, short_dir: Path) -> None:
    """In a process for which the kernel makes no socket: objects are read and made, and then harvested."""
    done = run_isolated(ALONE, str(directory), home=short_dir / "home", check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    pixels = np.arange(3000, dtype=np.float32).reshape(50, 60) + 3
    part = butler.get(
        "image",
        instrument=INSTRUMENT,
        exposure=3,
        detector=0,
        collections="u/one",
        parameters={"bbox": (5, 6, 15, 16)},
    )
    ids = answers.pop("ids")
    assert answers == {
        "image": [[50, 60], float(pixels.sum())],
        "part": [list(part.shape), float(np.asarray(part).sum())],
        "stars": [["ra"], [3.0, 2.0]],
        "config": {"n": 3},
        "first of the chain": {"n": 100},
        "bias": ["b/1", "b/2"],
        "exists": [True, False],
        "stored": 5,
        "peak": {"peak": None},
        "doubled": float(2 * pixels.sum()),
        "made of": ["image"],
        "file": '{"made":"here"}',
    }
    steps: list[tuple[str, int, int]] = []
    harvested = butler.harvest(directory, progress=lambda *step: steps.append(step))
    assert (harvested.datasets, harvested.present, harvested.quanta) == (4, 0, 1)
    assert {what for what, _, _ in steps} == {"datasets compared", "files compared", "datasets", "quanta"}
    found = {str(ref.id): ref for ref in butler.query_datasets("*", "u/out")}
    assert set(found) == set(ids), "with their ids"
    made = [found[id_] for id_ in ids]
    assert float(butler.get(made[0]).sum()) == answers["doubled"]
    assert butler.get(made[3]) == {"sum": 1.5}
    producer = butler.provenance(made[0]).producer
    assert producer is not None
    assert (producer.task, producer.status) == ("double", QuantumStatus.SUCCESSFUL)
    assert [relative.ref for relative in butler.ancestors(made[0])] == butler.query_datasets(
        "image", "u/one", data_id={"exposure": 3}
    )
    again = butler.harvest(directory)
    assert (again.datasets, again.present, again.quanta, again.definitions) == (0, 4, 0, 0)


QUESTIONS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("query_datasets", ("config",), {}),
    ("query_datasets", ("config",), {"find_first": False}),
    ("query_datasets", ("*", ["u/one", "u/two"]), {"with_dimension_records": True}),
    ("query_datasets", ("image",), {"data_id": {"band": "r"}}),
    ("query_datasets", ("image",), {"exposure": "3"}),
    ("query_datasets", ("config", "u/one"), {"order_by": "-exposure", "limit": 3}),
    ("query_datasets", ("config", "best"), {}),
    ("query_datasets", ("bias", "calib"), {"find_first": False}),
    ("query_datasets", ("config", "u/o*"), {"exclude": ["config exposure=3", "config exposure=1 run=u/two"]}),
    ("query_datasets", ("nothing",), {}),
    ("query_datasets", ("config", "nowhere"), {}),
    ("find_dataset", ("config",), {"instrument": INSTRUMENT, "exposure": 1}),
    ("find_dataset", ("config",), {"exposure": 1}),
    ("find_dataset", ("config",), {"obs_id": "T_7"}),
    ("find_dataset", ("config",), {"exposure": 1, "dimension_records": True}),
    ("find_dataset", ("image",), {"exposure": 2, "detector": "D0"}),
    ("find_dataset", ("image",), {"exposure": 2, "detector.full_name": "D0"}),
    ("find_dataset", ("image",), {"exposure": 2, "detector": 1}),
    ("find_dataset", ("image",), {"exposure": 2}),
    ("find_dataset", ("config",), {"instrument": INSTRUMENT, "exposure": 1, "band": "u"}),
    ("find_dataset", ("config",), {"instrument": INSTRUMENT, "exposure": "x"}),
    ("find_dataset", ("config",), {"instrument": INSTRUMENT, "exposure": 1, "nonsense": 1}),
    ("find_dataset", ("bias",), {"instrument": INSTRUMENT, "detector": 0}),
    ("find_dataset", ("bias",), {"instrument": INSTRUMENT, "detector": 0, "timespan": ("2026-03-21", "2026-03-22")}),
    ("get", ("bias",), {"instrument": INSTRUMENT, "detector": 0}),
    ("get", ("bias",), {"detector": 0, "exposure": 9}),
    ("get", ("bias",), {"instrument": INSTRUMENT, "detector": 0, "exposure": 77}),
    ("get", ("stars.columns",), {"exposure": 4}),
    ("get", ("stars.rubbish",), {"exposure": 4}),
    ("exists", ("config",), {"exposure": 1, "instrument": INSTRUMENT}),
    ("query_data_ids", (["exposure", "detector"],), {"dataset_types": "image"}),
    ("query_data_ids", ("exposure",), {"dataset_types": ["config", "stars"], "with_dimension_records": True}),
    ("query_dimension_records", ("exposure",), {"data_id": {"physical_filter": "g_1"}}),
    ("query_dimension_records", ("detector",), {}),
    ("query_dataset_types", ("*a*",), {}),
    ("get_metadata", ("image",), {"exposure": 1, "detector": 0}),
    ("count_datasets", ("*", ["u/one", "best"]), {}),
]


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Butler, Butler]]:
    """A repository and a bundle of all that it has, for questions only."""
    path = Path(tempfile.mkdtemp(prefix="pty-"))
    try:
        with (
            PantryDaemon(path) as daemon,
            Butler.create("d", str(path / "repo"), socket=daemon.socket) as repository,
        ):
            more = [{"instrument": INSTRUMENT, "detector": 1}]
            repository.create_bundle(fill(repository), path / "bundle", collections="all", data_ids=more)
            with Butler.from_bundle(path / "bundle") as opened, repository.clone(collections="all") as searching:
                yield searching, opened
    finally:
        shutil.rmtree(path)


@pytest.mark.parametrize(("method", "words", "options"), QUESTIONS)
def test_the_same_answers_as_of_the_repository(
    both: tuple[Butler, Butler], method: str, words: tuple[Any, ...], options: dict[str, Any]
) -> None:
    repository, bundle = both

    def ask(which: Butler) -> Any:
        try:
            found = getattr(which, method)(*words, **options)
        except PantryError as exc:
            return type(exc)
        if isinstance(found, dict):
            return {str(key): value for key, value in found.items() if value != 0}
        if not isinstance(found, list):
            return found if not isinstance(found, DatasetRef) else shown(found)
        answer = [shown(one) if isinstance(one, DatasetRef) else one for one in found]
        return answer if "order_by" in options else sorted(map(repr, answer))

    def shown(ref: DatasetRef) -> Any:
        data_id = ref.data_id
        more = dict(data_id.records.items()) if data_id.has_records() else None
        return ref.id, ref.run, ref.dataset_type, data_id.required, more, data_id.timespan if more else None

    assert ask(bundle) == ask(repository)


def test_collections_and_definitions(butler: Butler, bundle: Butler) -> None:
    assert bundle.collections.default == ("all",)
    assert bundle.run == "u/out"
    names = ["all", "b/1", "b/2", "best", "calib", "u/one", "u/two"]
    assert bundle.collections.query() == names
    assert bundle.collections.query("all", flatten_chains=True) == butler.collections.query("all", flatten_chains=True)
    assert [info.dataset_types for info in bundle.collections.query_info(names, include_summary=True)] == [
        info.dataset_types for info in butler.collections.query_info(names, include_summary=True)
    ]
    bundle.collections.register("mine", "CHAINED")
    bundle.collections.redefine_chain("mine", ["u/two", "all"])
    assert bundle.get("config", instrument=INSTRUMENT, exposure=1, collections="mine") == {"n": 100}
    with pytest.raises(PantryError, match="contain itself"):
        bundle.collections.redefine_chain("all", ["mine"])
    assert bundle.dimensions.version == butler.dimensions.version
    assert bundle.complete_expression("exposure.obs_").candidates == ["exposure.obs_id"]
    assert list(bundle.dataset_types) == list(butler.dataset_types)


def test_what_a_bundle_cannot_do(bundle: Butler) -> None:
    with pytest.raises(InvalidQueryError, match="expressions") as caught:
        bundle.query_datasets("config", where="exposure > 3")
    assert "dimension values" in caught.value.hint
    for call in (
        lambda: bundle.certify("calib", [], (None, None)),
        lambda: bundle.associate("best", []),
        lambda: bundle.ingest("blob", [("/x", {"exposure": 1})], run="u/x"),
        lambda: list(bundle.connection.stream(_listing())),
    ):
        with pytest.raises(InvalidRequestError, match="a bundle cannot do this") as refused:
            call()
        assert "ask the repository" in refused.value.hint
    with pytest.raises(DimensionNameError, match="relates no others"):
        bundle.query_datasets("config", data_id={"detector": 0})
    with pytest.raises(InvalidRequestError, match="only of its datasets"):
        bundle.query_data_ids(["exposure"])
    with pytest.raises(InvalidRequestError, match="not to 'd'"):
        bundle.put({}, "config", instrument=INSTRUMENT, exposure=2, outputs="d")
    with pytest.raises(InvalidRequestError, match="publishes nothing"):
        bundle.put({}, "config", instrument=INSTRUMENT, exposure=2, publish="qa")
    assert "u/out" not in bundle.collections


def _listing() -> Any:
    from pantry.wire.operations import ListTree

    return ListTree(repository="x", collection="u/one", dataset_type="config")


@pytest.mark.req("DMS-MWBT-REQ-0054")
def test_a_missing_input_is_an_error_at_once(butler: Butler, bundle: Butler, directory: Path, short_dir: Path) -> None:
    """The repository and its daemon are there, and are not asked."""
    [path] = directory.rglob("config_TestCam_3.json")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"config_TestCam_3\.json.*No such file") as caught:
        bundle.get("config", instrument=INSTRUMENT, exposure=3)
    assert "nothing is fetched" in caught.value.hint
    assert not path.exists()
    path.write_bytes(content.replace(b"3", b"4"))
    with pytest.raises(IntegrityError, match="not what was registered"):
        bundle.get("config", instrument=INSTRUMENT, exposure=3)
    path.write_bytes(content)
    assert bundle.get("config", instrument=INSTRUMENT, exposure=3) == {"n": 3}, "touched, but right"
    with pytest.raises(DatasetNotFoundError, match="has no dataset of type 'config'"):
        bundle.get("config", instrument=INSTRUMENT, exposure=3, collections="u/two")
    path.unlink()
    [other] = directory.rglob("stars_TestCam_3.parq")
    other.write_bytes(b"damaged")
    done = butler.create_bundle(butler.query_datasets("*", ["u/one", "u/two"]), directory, collections="all")
    assert (done.present, done.copies + done.reflinks) == (28, 2)
    assert bundle.get("config", instrument=INSTRUMENT, exposure=3) == {"n": 3}
    assert len(bundle.get("stars", instrument=INSTRUMENT, exposure=3)) == 2


def test_no_clobber_and_nothing_half(bundle: Butler, directory: Path) -> None:
    at = {"instrument": INSTRUMENT, "exposure": 3}
    before = sorted(path for path in directory.rglob("*") if "journal" not in path.name)
    with pytest.raises(DatasetExistsError):
        bundle.put({}, "config", at, run="u/one")
    with pytest.raises(PantryError):
        bundle.put(object(), "config", at)
    with pytest.raises(DataIdValueError, match="no exposure record"):
        bundle.put({}, "config", instrument=INSTRUMENT, exposure=77)
    with pytest.raises(PantryError, match="put into a RUN one"):
        bundle.put({}, "config", at, run="all")
    assert sorted(path for path in directory.rglob("*") if "journal" not in path.name) == before
    ref = bundle.put({"a": 1}, "config", at)
    with pytest.raises(ConflictError):
        bundle.put({}, DatasetRef(id=ref.id, dataset_type=ref.dataset_type, data_id=ref.data_id, run="u/else"))
    assert bundle.get(ref) == {"a": 1}
    with pytest.raises(PermissionDeniedError):
        Butler.from_bundle(directory, writeable=False).put({}, "config", at, run="u/x")


WRITER = """
import os, sys
from pantry.client import Butler
from pantry.errors import DatasetExistsError
butler = Butler.from_bundle(sys.argv[1])
mine = 0
for exposure in range(1, 11):
    butler.put({"by": sys.argv[2]}, "config", instrument="TestCam", exposure=exposure, run="w/" + sys.argv[2])
    try:
        butler.put({"by": sys.argv[2]}, "config", instrument="TestCam", exposure=exposure, run="shared")
        mine += 1
    except DatasetExistsError:
        pass
print(mine)
"""


def test_many_processes_write_at_once(bundle: Butler, directory: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(directory), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(5)
    ]
    won = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    assert sum(won) == 10, "each dataset once"
    for number in range(5):
        assert len(bundle.query_datasets("config", f"w/{number}")) == 10
    shared = bundle.query_datasets("config", "shared")
    assert sorted(sum(bundle.get(ref)["by"] == str(n) for ref in shared) for n in range(5)) == sorted(won)


KILLED = """
import os, random, sys, threading
from pantry.client import Butler
butler = Butler.from_bundle(sys.argv[1])
print("ready", flush=True)
for number in range(1000):
    ref = butler.put(b"x" * 20000 + bytes([number % 256]), "blob", instrument="TestCam", exposure=1 + number % 10,
                     detector=number // 10 % 2, run=f"k/{sys.argv[2]}/{number // 20}")
    print(ref.id, flush=True)
"""


def test_writers_are_killed(bundle: Butler, directory: Path) -> None:
    """Whenever it happens: what was acknowledged is there, and whole; nothing else is in the way of the next one."""
    chance = random.Random(1)
    for life in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(directory), str(life)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        acknowledged = [writer.stdout.readline().strip() for _ in range(chance.randrange(1, 12))]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [line for line in writer.communicate()[0].split("\n") if len(line) == 36]
        found = {str(ref.id): ref for ref in bundle.query_datasets("blob", f"k/{life}/*", find_first=False)}
        assert set(acknowledged) <= set(found)
        assert len(found) - len(acknowledged) <= 1, "the one that was not told of"
        for ref in found.values():
            assert len(bundle.get(ref)) == 20001
    # What a killed writer left without a row is no obstacle.
    orphan = directory / "orphan/blob/TestCam/1/blob_TestCam_1_0.bin"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"left")
    ref = bundle.put(b"new", "blob", instrument=INSTRUMENT, exposure=1, detector=0, run="orphan")
    assert bundle.get(ref) == b"new"


def test_threads_forks_and_pickles(bundle: Butler) -> None:
    import pickle
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        made = list(
            threads.map(lambda n: bundle.put({"n": n}, "config", instrument=INSTRUMENT, exposure=n), range(1, 9))
        )
    assert [bundle.get(ref)["n"] for ref in made] == list(range(1, 9))
    with pickle.loads(pickle.dumps(bundle)) as other:  # noqa: S301 - our own
        assert other.get(made[0]) == {"n": 1}
    child = os.fork()
    if child == 0:
        # It must not say anything of pytest's own.
        try:
            right = bundle.get(made[1]) == {"n": 2}
            bundle.put({"n": 9}, "config", instrument=INSTRUMENT, exposure=9)
        except BaseException:
            os._exit(3)
        os._exit(0 if right else 4)
    assert os.waitpid(child, 0)[1] == 0
    assert bundle.get("config", instrument=INSTRUMENT, exposure=9, collections="u/out") == {"n": 9}
    bundle.close()
    assert bundle.get(made[0]) == {"n": 1}, "opened again"


# -- harvest -----------------------------------------------------------------------------------------------------------


def outputs(bundle: Butler, count: int = 10) -> list[DatasetRef]:
    return [bundle.put({"out": n}, "config", instrument=INSTRUMENT, exposure=n) for n in range(1, count + 1)]


def test_a_harvest_never_overwrites(butler: Butler, bundle: Butler, directory: Path) -> None:
    made = outputs(bundle)
    theirs = butler.put({"mine": 1}, "config", instrument=INSTRUMENT, exposure=4, run="u/out")
    with pytest.raises(ConflictError):
        butler.harvest(directory)
    assert butler.query_datasets("config", "u/out") == [theirs], "nothing was harvested"
    assert butler.get(theirs) == {"mine": 1}
    assert bundle.get(made[3]) == {"out": 4}


def test_damaged_outputs_are_not_harvested(butler: Butler, bundle: Butler, directory: Path) -> None:
    outputs(bundle)
    path = directory / "u/out/config/TestCam/config_TestCam_3.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"3", b"8"))
    with pytest.raises(IntegrityError, match="not what was put"):
        butler.harvest(directory)
    path.unlink()
    with pytest.raises(NotFoundError, match="not there any more"):
        butler.harvest(directory)
    assert "u/out" not in butler.collections
    path.write_bytes(content)
    assert butler.harvest(directory, transfer="move").datasets == 10
    assert not path.exists()
    assert butler.harvest(directory).present == 10, "moved, and known"


def test_into_another_repository(butler: Butler, bundle: Butler, directory: Path, short_dir: Path) -> None:
    made = outputs(bundle)
    with Butler.create(
        "archive", str(short_dir / "archive"), socket=butler._socket or butler.connection.socket_path
    ) as archive:
        done = archive.harvest(directory)
        assert (done.datasets, done.dimension_records > 10) == (10, True)
        assert archive.get("config", instrument=INSTRUMENT, exposure=2, collections="u/out") == {"out": 2}
        assert archive.query_datasets("config", "u/out") == made
        with pytest.raises(ConflictError, match="bundle of the repository 'd'"):
            archive.create_bundle(made, directory)


HARVESTER = """
import os, sys
import pantry.client.bundles.harvesting as harvesting
from pantry.client import Butler
harvesting.MAX_ITEMS = 3
butler = Butler("d", socket=sys.argv[1])
calls = 0
def step(what, done, total):
    global calls
    calls += what in ("datasets", "quanta")
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), 9)
print(butler.harvest(sys.argv[2], progress=step).datasets)
"""


@pytest.mark.req("DMS-MWBT-REQ-0079")
def test_harvests_are_killed(butler: Butler, bundle: Butler, directory: Path) -> None:
    """Killed after each of its requests in turn, and run again: everything is there once."""
    made = outputs(bundle)
    quanta = [Quantum(id=uuid4(), task="t", run="u/out", predicted_inputs=(), outputs=(ref.id,)) for ref in made]
    bundle.record_quanta(quanta)
    there = []
    for step in (1, 1, 2, 1, 99):
        died = subprocess.run(
            [sys.executable, "-c", HARVESTER, butler.connection.socket_path, str(directory), str(step)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert died.returncode == (0 if step == 99 else -signal.SIGKILL), died.stderr
        there.append(len(butler.query_datasets("config", "u/out")) if "u/out" in butler.collections else 0)
    assert there == [3, 6, 10, 10, 10]
    assert butler.query_datasets("config", "u/out") == made
    assert [butler.get(ref)["out"] for ref in made] == list(range(1, 11))
    assert all(butler.provenance(ref).producer == quantum for ref, quantum in zip(made, quanta, strict=True))


# -- making ------------------------------------------------------------------------------------------------------------


def test_a_bundle_that_is_not_whole_is_not_opened(butler: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    code = """
import os, sys
from pantry.client import Butler
butler = Butler("d", socket=sys.argv[1])
butler.create_bundle(butler.query_datasets("*", ["u/one", "u/two"]), sys.argv[2], collections="all",
                     progress=lambda done, total: done > 20000 and os.kill(os.getpid(), 9))
"""
    died = subprocess.run(
        [sys.executable, "-c", code, butler.connection.socket_path, str(short_dir / "b")], check=False
    )
    assert died.returncode == -signal.SIGKILL
    with pytest.raises(NotFoundError, match="not made to its end"):
        Butler.from_bundle(short_dir / "b")
    assert not list((short_dir / "b").rglob("*.part"))
    done = butler.create_bundle(refs, short_dir / "b", collections="all")
    assert done.present > 0
    with Butler.from_bundle(short_dir / "b") as opened:
        for ref in refs:
            with butler.open(ref) as theirs, opened.open(ref) as ours:
                assert hashlib.sha256(ours.read()).digest() == hashlib.sha256(theirs.read()).digest()


def test_of_a_graph_with_the_data_ids_of_its_outputs(butler: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    graph = butler.query_graph("stars", dimensions=["detector"], collections="u/one", where="exposure < 4")
    butler.create_bundle(graph, short_dir / "b", collections="u/one", run="u/out")
    with Butler.from_bundle(short_dir / "b") as opened:
        assert len(opened.query_datasets("stars")) == 3
        assert len(opened.query_dimension_records("detector")) == 2
        # No image was among the inputs.
        ref = opened.put(np.zeros((3, 3), np.float32), "image", instrument=INSTRUMENT, exposure=2, detector=1)
        with pytest.raises(DataIdValueError, match="no exposure record"):
            opened.put({}, "config", instrument=INSTRUMENT, exposure=7)
    assert butler.harvest(short_dir / "b").datasets == 1
    assert butler.get(ref).shape == (3, 3)


def test_what_is_no_bundle(tmp_path: Path, bundle: Butler, directory: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a bundle"):
        Butler.from_bundle(tmp_path)
    with pytest.raises(NotFoundError, match="is not a bundle"):
        Butler(f"{tmp_path}/nowhere")
    index = directory / ".pantry-bundle/index.sqlite3"
    index.write_bytes(b"not a database" * 1000)
    with pytest.raises(PantryError, match="index"):
        Butler.from_bundle(directory)


def test_a_bundle_of_somebody_else(bundle: Butler, directory: Path, short_dir: Path) -> None:
    """Its index could name any file of who uses it."""
    (short_dir / "secret").write_text("{}")
    database = sqlite3.connect(directory / ".pantry-bundle/index.sqlite3")
    with database:
        database.execute(
            "UPDATE dataset SET path = '../secret', size_bytes = 2, modified_ns = ? "
            "WHERE dataset_type = 'config' AND run = 'u/two'",
            ((short_dir / "secret").stat().st_mtime_ns,),
        )
    database.close()
    with pytest.raises(IntegrityError, match="outside of it"):
        bundle.get("config", instrument=INSTRUMENT, exposure=1)


def test_a_bundle_that_moved_or_is_only_read(butler: Butler, directory: Path, short_dir: Path) -> None:
    shutil.copytree(directory, short_dir / "copy")
    shutil.rmtree(directory)
    with Butler.from_bundle(short_dir / "copy") as moved:
        assert moved.get("config", instrument=INSTRUMENT, exposure=4) == {"n": 4}
        assert len(moved.query_datasets("image")) == 10
        assert moved.get("image", instrument=INSTRUMENT, exposure=4, detector=0).shape == (50, 60)
    if os.geteuid() == 0:
        code = (
            "import sys; from pantry.client import Butler; b = Butler.from_bundle(sys.argv[1])\n"
            "print(b.get('config', instrument='TestCam', exposure=4), b.info.writable)\n"
            "b.put({}, 'config', instrument='TestCam', exposure=4)"
        )
        done = run_as(4242, code, str(short_dir / "copy"))
        assert done.stdout == "{'n': 4} False\n"
        assert "PermissionDeniedError: you may not write to the bundle" in done.stderr


def test_the_command_line(butler: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pantry.client.cli.main", "--socket", butler.connection.socket_path, *words],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    where = str(short_dir / "b")
    made = run("bundle", "create", "d", where, "config", "-c", "u/one", "-d", "exposure=3", "--run", "u/out")
    assert "1 copies" in made or "1 reflinks" in made
    assert json.loads(run("get", where, "config", "exposure=3")) == {"n": 3}
    assert "config" in run("query-datasets", where, "config")
    (short_dir / "file.json").write_text('{"from": "the shell"}')
    run("put", where, "config", str(short_dir / "file.json"), "exposure=3", "--run", "u/out")
    assert "u/one" in run("collections", "list", where)
    assert "config" in run("dataset-types", where)
    assert "outputs  1" in run("bundle", "verify", where)
    assert "1 datasets" in run("bundle", "harvest", where, "d")
    assert json.loads(run("get", "d", "config", "exposure=3", "-c", "u/out")) == {"from": "the shell"}
    run("stage", where, str(short_dir / "staged"), "config")
    assert [path.name for path in (short_dir / "staged").rglob("*.json")] == ["config_TestCam_3.json"]
    assert "expressions" in run("query-datasets", where, "config", "-w", "exposure > 2", code=1)
    graph = butler.query_graph("stars", dimensions=["detector"], collections="u/one", where="exposure = 5")
    (short_dir / "graph.json").write_bytes(graph.to_json())
    run("bundle", "create", "d", str(short_dir / "g"), "--graph", str(short_dir / "graph.json"), "-c", "u/one")
    with Butler.from_bundle(short_dir / "g") as opened:
        assert opened.get("stars", exposure=5)["ra"][0] == 5.0
        assert len(opened.query_dimension_records("detector")) == 2, "of outputs, that no input is of"
    assert "no datasets match" in run("bundle", "create", "d", where + "2", "stars", "-c", "u/two", code=1)
    next((short_dir / "b").rglob("u/one/**/*.json")).unlink()
    assert "missing" in run("bundle", "verify", where, code=1)
    assert "is not a bundle" in run("get", f"{where}/x", "config", code=1)


def test_composites(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> None:
    """A composite that is stored in parts goes with them, also those of another repository, and comes back so."""
    from tests.integration.test_composites import DATA_ID, IN_PARTS, exposure, make, same

    daemon = make_daemon()
    butler = make(daemon, "parts", str(short_dir / "parts"), IN_PARTS)
    other = make(daemon, "other", str(short_dir / "other"), IN_PARTS)
    whole = butler.put(exposure(), "calexp", DATA_ID)
    release = exposure()
    release.psf = release.psf * 2
    theirs = other.get_components(other.put(release, "calexp", DATA_ID, run="there"))["psf"]
    theirs = msgspec.structs.replace(theirs, repository="other")
    mixed = butler.put_composite({"psf": theirs}, "calexp", DATA_ID, base=whole, run="mixed")
    expected = butler.get(mixed)
    assert len(butler.stage([whole], short_dir / "staged").paths) == 5
    done = butler.create_bundle([mixed], short_dir / "b", collections="mixed", run="out")
    assert done.copies + done.reflinks == 7, "two manifests, four components, and one of another repository"
    daemon.stop()
    with Butler.from_bundle(short_dir / "b") as bundle:
        found = bundle.get("calexp", DATA_ID)
        assert np.array_equal(found.psf, expected.psf)
        assert np.array_equal(found.psf, release.psf)
        assert np.array_equal(found.data, exposure().data)
        assert np.array_equal(bundle.get("calexp.psf", DATA_ID), release.psf)
        assert [ref.dataset_type.name for ref in bundle.query_datasets("*", "*", find_first=False)] == ["calexp"] * 2
        made = bundle.put(exposure(), "calexp", DATA_ID)
        same(bundle.get(made), exposure())
        assert len(bundle.query_datasets("calexp.*", "out")) == 4
    daemon.start()
    assert butler.harvest(short_dir / "b").datasets == 5
    same(butler.get("calexp", DATA_ID, collections="out"), exposure())
    assert butler.get_components(made).keys() >= {"image", "mask", "psf", "uncertainty"}


OTHER_USER = """
import sys
from pantry.client import Butler
butler = Butler("d", collections="all", socket=sys.argv[1])
butler.create_bundle(butler.query_datasets("config", "u/one"), sys.argv[2], run="u/theirs")
job = Butler.from_bundle(sys.argv[2])
for ref in job.query_datasets("config"):
    job.put({"twice": 2 * job.get(ref)["n"]}, "config", ref.data_id)
print(butler.harvest(sys.argv[2]).datasets, butler.harvest(sys.argv[2]).present)
"""


@pytest.mark.root
def test_users_of_a_node_that_is_not_theirs(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], short_dir: Path
) -> None:
    """The daemon reads none of their files by path, and its cache and storage are closed to them."""
    daemon = make_daemon(system=True)
    (short_dir / "repo").mkdir(mode=0o700)
    (short_dir / "theirs").mkdir()
    os.chown(short_dir / "theirs", 4242, 4242)
    with Butler.create("d", str(short_dir / "repo"), writers=["4242"], readers=["4242"], socket=daemon.socket) as owner:
        fill(owner)
        done = run_as(4242, OTHER_USER, daemon.socket, str(short_dir / "theirs/job"))
        assert (done.stdout, done.stderr) == ("10 10\n", "")
        assert owner.get("config", instrument=INSTRUMENT, exposure=4, collections="u/theirs") == {"twice": 8}


CANNOT = {
    # Of the node: its cache, its mounts, its storage.
    "cache.damage", "cache.evict", "cache.list", "cache.offline", "cache.pin", "cache.pins", "cache.prefetch",
    "cache.status", "cache.unpin", "cache.verify", "metrics", "status", "tree.list", "object.list", "object.open",
    "object.prefixes", "object.stat", "object.locate", "data.fetch",
    # Of the daemon and the network.
    "backends", "config.get", "credentials.add", "credentials.list", "credentials.remove",
    "query.list", "query.run",
    "publish.datasets", "publish.forget", "publish.retry", "publish.status", "publish.targets",
    # Of repositories: what a bundle is made from, and harvested into.
    "repo.attach", "repo.chain", "repo.create", "repo.remove",
    "data.ingest", "dataset.associate", "dataset.disassociate",
    "dataset.certify", "dataset.decertify", "dataset.remove", "dataset.members", "import.datasets",
    "import.definitions", "import.members", "metadata.record", "provenance.quanta", "subset.begin",
    "subset.copy", "subset.finish",
}  # fmt: skip
"""Operations that a bundle refuses on purpose. A new one that Butler needs to read or write belongs into the bundle."""


def test_every_operation_is_answered_or_refused_on_purpose(bundle: Butler) -> None:
    from pantry.client.bundles.answering import BundleLink
    from pantry.wire import operations
    from pantry.wire.operations.base import concrete_operations

    link = bundle.connection.link()
    assert isinstance(link, BundleLink)
    known = {
        str(kind.__struct_config__.tag)
        for kind in concrete_operations()
        if hasattr(kind, "result_type") and hasattr(operations, kind.__name__)  # not those of tests
    }
    assert known - {str(kind.__struct_config__.tag) for kind in link.answered} == CANNOT


def test_where_files_come_from(butler: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    """In the file, or beside it where the format has no room."""
    parent = refs[0]
    child = butler.put({"made": 1}, "config", instrument=INSTRUMENT, exposure=5, run="u/p", provenance=[parent])
    butler.create_bundle([child], short_dir / "b", collections="u/p", run="u/out")
    assert len(butler.stage([child], short_dir / "staged").paths) == 2
    with Butler.from_bundle(short_dir / "b") as bundle:
        said = bundle.get("config.provenance", instrument=INSTRUMENT, exposure=5)
        assert [one.id for one in said.inputs] == [parent.id]
        made = bundle.put({"made": 2}, "config", child.data_id, provenance=[child])
    assert butler.harvest(short_dir / "b").datasets == 2
    back = butler.get("config.provenance", instrument=INSTRUMENT, exposure=5, collections="u/out")
    assert [one.id for one in back.inputs] == [child.id]
    assert butler.get(made) == {"made": 2}
