"""Discovery as a graph: visits, detectors and the patches of two tracts, through a real daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeGuard

import pytest
from lsst.sphgeom import DISJOINT, Angle, Circle, LonLat, UnitVector3d
from tests.integration.command_line import pantry
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.client.butler.graph import DiscoveryGraph
from pantry.errors import DimensionNameError, InvalidRequestError, LimitExceededError, MissingDatasetTypeError
from pantry.model.data_id import DataCoordinate

VISITS = range(1, 9)
PATCHES = [(tract, patch) for tract in (1, 2) for patch in range(4)]
DETECTORS = (0, 1, 2)
MISSING = (3, 1)
"""Visit and detector without a calexp."""


def circle(ra: float, radius: float) -> Circle:
    return Circle(UnitVector3d(LonLat.fromDegrees(ra, 0)), Angle.fromDegrees(radius))


def visit_region(visit: int) -> Circle:
    return circle(1.1 * visit, 0.9)


def patch_region(tract: int, patch: int) -> Circle:
    return circle(5 * (tract - 1) + 1.2 * patch, 0.5)


def overlapping(visit: int) -> set[tuple[int, int]]:
    """Tracts and patches, by comparing each with each."""
    region = visit_region(visit)
    return {which for which in PATCHES if not region.relate(patch_region(*which)) & DISJOINT}


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    with Butler.create("d", str(tmp_path / "repo"), socket=make_daemon().socket) as made:
        for element, values in (
            ("instrument", {"name": "Cam"}),
            ("day_obs", {"instrument": "Cam", "id": 20250101}),
            ("physical_filter", {"instrument": "Cam", "name": "r_1", "band": "r"}),
            ("skymap", {"name": "map", "hash": "00"}),
        ):
            made.insert_dimension_records(element, values)
        made.insert_dimension_records(
            "detector", *[{"instrument": "Cam", "id": number, "full_name": f"D{number}"} for number in DETECTORS]
        )
        made.insert_dimension_records(
            "visit",
            *[
                {
                    "instrument": "Cam",
                    "id": visit,
                    "name": f"v{visit}",
                    "physical_filter": "r_1",
                    "day_obs": 20250101,
                    "region": visit_region(visit),
                }
                for visit in VISITS
            ],
        )
        # Where a detector is looked for on the sky, its own region counts; here that of its visit.
        made.insert_dimension_records(
            "visit_detector_region",
            *[
                {"instrument": "Cam", "visit": visit, "detector": detector, "region": visit_region(visit)}
                for visit in VISITS
                for detector in DETECTORS
            ],
        )
        made.insert_dimension_records(
            "tract", *[{"skymap": "map", "id": tract, "region": circle(5 * tract - 3, 4)} for tract in (1, 2)]
        )
        made.insert_dimension_records(
            "patch",
            *[
                {"skymap": "map", "tract": tract, "id": patch, "cell_x": patch, "cell_y": 0}
                | {"region": patch_region(tract, patch)}
                for tract, patch in PATCHES
            ],
        )
        made.register_dataset_type("calexp", ["visit", "detector"], "StructuredDataDict")
        made.register_dataset_type("coadd", ["patch", "band"], "StructuredDataDict")
        for visit in VISITS:
            for detector in DETECTORS:
                if (visit, detector) != MISSING:
                    made.put({"v": visit}, "calexp", instrument="Cam", visit=visit, detector=detector, run="run")
        made.put({}, "coadd", skymap="map", tract=1, patch=2, band="r", run="run")
        yield Butler("d", collections="run", connection=made.connection)


@pytest.mark.req("DMS-MWBT-REQ-0080", "DMS-MWBT-REQ-0083")
def test_from_outputs_back_to_all_possible_inputs(butler: Butler) -> None:
    graph = butler.query_graph("calexp", ["patch"], optional="coadd", where="instrument = 'Cam' AND skymap = 'map'")
    assert graph.dataset_types == ("calexp", "coadd")
    reached = {which for visit in VISITS for which in overlapping(visit)}
    patches = graph.data_ids("patch")
    assert {(one["tract"], one["patch"]) for one in patches} == reached
    assert len(patches) == len(reached)
    for patch in patches:
        visits = {visit for visit in VISITS if (patch["tract"], patch["patch"]) in overlapping(visit)}
        inputs = graph.related_datasets(patch, "calexp")
        expected = {(visit, detector) for visit in visits for detector in DETECTORS} - {MISSING}
        assert {(ref.data_id["visit"], ref.data_id["detector"]) for ref in inputs} == expected
        assert len(inputs) == len(expected)
        assert {one["visit"] for one in graph.related_data_ids(patch, "visit")} == {visit for visit, _ in expected}
    for ref in graph.datasets("calexp"):
        found = {(one["tract"], one["patch"]) for one in graph.related_data_ids(ref, "patch")}
        assert found == overlapping(int(str(ref.data_id["visit"])))
    (coadd,) = graph.datasets("coadd")
    assert {ref.data_id["visit"] for ref in graph.related_datasets(coadd, "calexp")} == {
        visit for visit in VISITS if (1, 2) in overlapping(visit)
    }


@pytest.mark.req("DMS-MWBT-REQ-0083")
def test_a_simple_graph_is_a_flat_list(butler: Butler) -> None:
    graph = butler.query_graph("calexp", where="visit IN (2, 3)")
    assert set(graph) == set(butler.query_datasets("calexp", where="visit IN (2, 3)"))
    assert len(graph) == len(list(graph)) == 5
    assert [one["visit"] for one in graph.data_ids("visit")] == [2, 3]
    assert [one["band"] for one in graph.data_ids("band")] == ["r"]
    assert len(graph.data_ids(["visit", "detector"])) == 5
    assert repr(graph).startswith("DiscoveryGraph(5 calexp; 5 rows of ")
    # A data unit without what must be there is not in it; without anything that must be, all are.
    assert butler.query_graph("coadd", where="patch = 1").datasets() == []
    assert len(butler.query_graph((), ["visit", "detector"]).data_ids(["visit", "detector"])) == 24
    empty = butler.query_graph("calexp", visit=99)
    assert (list(empty), empty.data_ids("visit"), list(empty.edges())) == ([], [], [])


def test_nodes_and_edges(butler: Butler) -> None:
    graph = butler.query_graph("calexp", "patch", where="visit IN (2, 3)")
    edges = list(graph.edges())
    nodes = set(graph.nodes())
    assert len(nodes) == len(list(graph.nodes()))
    assert {end for edge in edges for end in edge} == nodes
    assert len({frozenset(edge) for edge in edges}) == len(edges)
    between = set()
    for one, other in (*edges, *[edge[::-1] for edge in edges]):
        if _is(one, "visit") and _is(other, "patch"):
            between.add((one["visit"], other["tract"], other["patch"]))
    assert between == {(visit, *which) for visit in (2, 3) for which in overlapping(visit)}


def _is(node: object, dimension: str) -> TypeGuard[DataCoordinate]:
    return isinstance(node, DataCoordinate) and node.required_names[-1] == dimension


def test_it_is_never_cut_and_mistakes_are_told(butler: Butler) -> None:
    with pytest.raises(LimitExceededError, match="more than 4 combinations"):
        butler.query_graph("calexp", where="visit IN (2, 3)", max_rows=4)
    graph = butler.query_graph("calexp", where="visit IN (2, 3)", max_rows=5)
    with pytest.raises(DimensionNameError, match="no dimension patch"):
        graph.data_ids("patch")
    with pytest.raises(MissingDatasetTypeError, match="no dataset type 'coadd'"):
        graph.datasets("coadd")
    with pytest.raises(InvalidRequestError, match="of what"):
        butler.query_graph(())
    with pytest.raises(InvalidRequestError, match="by their names"):
        butler.query_graph("cal*")
    for text in (b"", b"{}", b"[1]", graph.to_json().replace(b'"rows":[[', b'"rows":[["x",')):
        with pytest.raises(InvalidRequestError, match="not a discovery graph"):
            DiscoveryGraph.from_json(text)


LAUNCH = """
import sys
from pantry.client import Butler
butler = Butler("d", collections="run", socket=sys.argv[1])
graph = butler.query_graph("calexp", "patch", optional="coadd", where="tract = 1 AND skymap = 'map'")
open(sys.argv[2], "wb").write(graph.to_json())
"""
JOB = """
import sys
from pantry.client.butler.graph import DiscoveryGraph
graph = DiscoveryGraph.from_json(open(sys.argv[1], "rb").read())
(coadd,) = graph.datasets("coadd")
print(sorted({ref.data_id["visit"] for ref in graph.related_datasets(coadd, "calexp")}))
"""


@pytest.mark.req("DMS-MWBT-REQ-0084", "DMS-MWBT-REQ-0085", "DMS-MWBT-REQ-0086")
def test_the_same_graph_wherever_processing_is_launched(butler: Butler, tmp_path: Path) -> None:
    """By a script that launches batch jobs, in a notebook's IPython, and in a test; the jobs have no daemon."""
    from IPython.core.interactiveshell import InteractiveShell

    script = tmp_path / "graph.json"
    command = [sys.executable, "-c", LAUNCH, butler.connection.socket_path, str(script)]
    subprocess.run(command, check=True, timeout=60)
    shell = InteractiveShell()
    shell.user_ns.update(butler=butler)
    cell = "graph = butler.query_graph('calexp', 'patch', optional='coadd', where=\"tract = 1 AND skymap = 'map'\")"
    assert shell.run_cell(cell).success
    here = butler.query_graph("calexp", "patch", optional="coadd", where="tract = 1 AND skymap = 'map'")
    assert script.read_bytes() == shell.user_ns["graph"].to_json() == here.to_json()
    job = [sys.executable, "-c", JOB, str(script)]
    environment = {**os.environ, "PANTRY_SOCKET": "/nowhere"}
    found = subprocess.run(job, check=True, timeout=60, capture_output=True, text=True, env=environment)
    assert found.stdout == f"{[visit for visit in VISITS if (1, 2) in overlapping(visit)]}\n"


@pytest.mark.req("DMS-MWBT-REQ-0083")
def test_on_the_command_line(butler: Butler) -> None:
    asked = ("query-graph", "d", "calexp", "--dimensions", "patch", "-c", "run", "-w", "tract = 1 AND skymap = 'map'")
    expected = butler.query_graph("calexp", "patch", where="tract = 1 AND skymap = 'map'")
    assert pantry(butler, *asked, "--json").stdout.encode().rstrip() == expected.to_json()
    rows = pantry(butler, *asked).stdout.splitlines()
    assert {row.split()[2] for row in rows[1:]} == {str(ref.id) for ref in expected}
    units = pantry(butler, *asked, "--data-ids", "tract,patch").stdout.splitlines()
    assert units[0].split() == ["skymap", "tract", "patch"]
    assert len(units) == 1 + len(expected.data_ids("patch"))
    wrong = pantry(butler, *asked, "--json", "--dot")
    assert wrong.returncode == 2
    assert "only one of" in wrong.stderr


def test_dot_is_for_graphviz_whatever_the_names(butler: Butler) -> None:
    hostile = 'a"b\\n\x07]; x'
    butler.insert_dimension_records("instrument", {"name": hostile})
    graph = butler.query_graph((), "instrument")
    nodes = [line for line in graph.to_dot_lines() if "label=" in line]
    assert nodes == [
        '  n0 [shape=ellipse, label="instrument=Cam"]',
        '  n1 [shape=ellipse, label="instrument=a\\"b\\\\n?]; x"]',
    ]
    whole = butler.query_graph("calexp", "patch")
    text = list(whole.to_dot_lines())
    assert sum(" -- " in line for line in text) == len(list(whole.edges()))
    assert sum("shape=box" in line for line in text) == len(whole)
