"""Provenance through a real daemon: recorded, reported, walked in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConflictError, PermissionDeniedError
from pantry.model.datasets import DatasetRef
from pantry.model.provenance import Quantum


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    with Butler.create("d", str(tmp_path / "repo"), socket=make_daemon().socket) as made:
        furnish(made, 3)
        yield made


@pytest.mark.req("DMS-MWBT-REQ-0094")
@pytest.mark.req("DMS-MWBT-REQ-0095")
def test_what_was_made_of_what(butler: Butler) -> None:
    raw, used, unused, made, final = (
        butler.put({"n": number}, "config", instrument=INSTRUMENT, exposure=1, run=f"run{number}")
        for number in range(5)
    )
    first = Quantum(
        id=uuid4(),
        task="isr",
        run="run3",
        predicted_inputs=(raw.id, used.id, unused.id),
        actual_inputs=(raw.id, used.id),
        outputs=(made.id,),
    )
    second = Quantum(id=uuid4(), task="calibrate", run="run4", predicted_inputs=(made.id,), outputs=(final.id,))
    assert butler.record_quanta([first, second]) == 2
    assert butler.record_quanta([first]) == 0, "saying it again is nothing new"

    def near(direction: str, ref: DatasetRef, **more: object) -> list[tuple[int, DatasetRef | None]]:
        return [(one.distance, one.ref) for one in getattr(butler, direction)(ref, **more)]

    assert near("descendants", raw) == [(1, made), (2, final)]
    assert near("descendants", unused) == []
    assert near("descendants", unused, inputs="predicted") == [(1, made), (2, final)]
    assert near("descendants", raw.id, max_depth=1) == [(1, made)]
    assert sorted(near("ancestors", final), key=str) == sorted([(1, made), (2, raw), (2, used)], key=str)
    report = butler.provenance(made)
    assert report.producer is not None
    assert report.producer.task == "isr"
    assert set(report.producer.predicted_inputs or ()) == {raw.id, used.id, unused.id}
    assert set(report.producer.actual_inputs or ()) == {raw.id, used.id}
    assert [one.task for one in report.consumers] == ["calibrate"]
    assert butler.provenance(raw).producer is None
    shown = pantry(butler, "provenance", "d", str(made.id)).stdout
    assert "made by      isr" in shown
    assert sorted(line.split()[:2] for line in shown.split("inputs:")[1].splitlines()[2:5]) == [
        ["yes", "no"],
        ["yes", "yes"],
        ["yes", "yes"],
    ]
    assert "calibrate" in shown.split("used by:")[1]
    walked = pantry(butler, "descendants", "d", str(raw.id), "--json")
    assert [(one["distance"], one["id"]) for one in json.loads(walked.stdout)] == [
        (1, str(made.id)),
        (2, str(final.id)),
    ]
    back = pantry(butler, "ancestors", "d", str(final.id), "--depth", "1").stdout.splitlines()
    assert [line.split()[:4] for line in back[1:]] == [["1", "config", "run3", str(made.id)]]
    assert "nobody recorded" in pantry(butler, "provenance", "d", str(raw.id)).stderr
    unknown = pantry(butler, "provenance", "d", str(uuid4()))
    assert (unknown.returncode, "is not a valid" in pantry(butler, "ancestors", "d", "raw").stderr) == (1, True)
    with pytest.raises(ConflictError):
        butler.record_quanta([Quantum(id=uuid4(), task="other", run="run3", outputs=(made.id,))])
    with pytest.raises(PermissionDeniedError):
        Butler("d", socket=butler.connection.socket_path, writeable=False).record_quanta([first])
