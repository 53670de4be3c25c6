"""Completion as people meet it: a real IPython, a real bash in a terminal, a real daemon (DMS-MWBT-REQ-0092)."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler

HOSTILE = 'Ho`s$(t)"<b>'

pytestmark = pytest.mark.req("DMS-MWBT-REQ-0092")


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon]) -> PantryDaemon:
    return make_daemon()


@pytest.fixture
def butler(daemon: PantryDaemon, tmp_path: Path) -> Iterator[Butler]:
    with Butler.create("demo", str(tmp_path / "repo"), socket=daemon.socket) as made:
        furnish(made)
        entries = ["fwhm:float=fwhm [pixel]", "verdict:string=verdict", "good:bool=good"]
        dimensions = ["instrument", "exposure", "detector"]
        made.register_dataset_type("calexp", dimensions, "StructuredDataDict", metadata=entries)
        for detector, verdict in enumerate(("fine", "it's bad")):
            content = {"fwhm": 2.5, "verdict": verdict, "good": True}
            made.put(content, "calexp", instrument=INSTRUMENT, exposure=1, detector=detector, run="u/ann/one")
        made.insert_dimension_records("instrument", {"name": HOSTILE})
        yield made


# -- expressions --------------------------------------------------------------------------------


EXPRESSIONS: list[tuple[str, list[str], str]] = [
    ("exposure.exp", ["exposure.exposure_time"], "exposure.id"),
    ("exposure.timespan.", ["exposure.timespan.begin", "exposure.timespan.end"], ""),
    ("calexp.", ["calexp.fwhm", "calexp.verdict", "calexp.good"], ""),
    ("band = '", ["r'"], ""),
    ("band = ", ["'r'"], "band"),
    ("band IN ('g', '", ["r'"], ""),
    ("GLOB(band, '", ["r'"], ""),
    ("detector = ", ["0", "1"], "detector"),
    ("NOT (calexp.verdict = '", ["fine'", "it''s bad'"], ""),
    ("calexp.verdict = 'it''", ["it''s bad'"], "fine'"),
    ("calexp.good = ", ["TRUE", "FALSE"], ""),
    ("exposure.timespan ", ["OVERLAPS "], "= "),
    ("detector ", ["= ", "!= "], "AND "),
    ("detector = 3 ", ["AND ", "OR "], "= "),
    ("detector = 3 a", ["AND "], "OR "),
    ("visit.region OVERLAPS C", ["CIRCLE("], "BOX("),
    ("CIRCLE(", [], ""),
    ("band = '''", [], ""),
    ("exposure.timespan.begin > T'2020", [], ""),
    ("strange = '", [], ""),
    ("detector = 3 ) ) ' (", [], ""),
]


def test_expressions(butler: Butler) -> None:
    for text, first, absent in EXPRESSIONS:
        found = butler.complete_expression(text, dataset_types="calexp")
        assert found.candidates[: len(first)] == first, text
        assert first or not found.candidates, text
        assert absent not in found.candidates, text
        assert butler.complete_expression(text + " AND more", len(text), dataset_types="calexp") == found


def test_what_is_completed_can_be_asked(butler: Butler) -> None:
    # Every name that is offered means something to the daemon; those of the sky need a visit to relate them.
    asked = 0
    for name in butler.complete_expression("", dataset_types="calexp").candidates:
        columns = butler.complete_expression(name, dataset_types="calexp").candidates if name.endswith(".") else [name]
        for column in columns:
            elsewhere = column.split(".")[0] in ("skymap", "tract", "patch")
            if not elsewhere and not column.endswith((".timespan", ".region", ".", ".hash")):
                butler.count_datasets("calexp", "u/ann/one", where=f"{column} IS NULL")
                asked += 1
    assert asked > 50
    for value in butler.complete_expression("calexp.verdict = ").candidates:
        assert butler.count_datasets("calexp", "u/ann/one", where=f"calexp.verdict = {value}") == 1


def test_many_rows_with_few_values_give_all_of_them(butler: Butler) -> None:
    records = [
        {
            "instrument": INSTRUMENT,
            "id": number,
            "obs_id": str(number),
            "physical_filter": "r_1",
            "day_obs": 20260315,
            "group": "g",
            "observation_type": "science" if number < 2990 else "bias" if number < 2999 else "flat",
        }
        for number in range(1000, 3000)
    ]
    butler.insert_dimension_records("exposure", *records)
    kinds = butler.complete_expression("exposure.observation_type = ").candidates
    assert kinds == ["'bias'", "'flat'", "'science'"]


def test_no_daemon_no_answer_no_error(butler: Butler, daemon: PantryDaemon) -> None:
    daemon.stop()
    begin = time.monotonic()
    assert butler.complete_expression("exp").candidates == []
    assert time.monotonic() - begin < 10
    assert not os.path.exists(daemon.socket)


def test_factory(butler: Butler) -> None:
    x = butler.expression_factory
    assert {"visit", "exposure", "band"} <= set(dir(x))
    assert "exposure_time" in dir(x.visit)
    conditions = (x["calexp"].fwhm > 1) & (x.band == "r") & x.detector.in_range(0, 1)
    (found,) = butler.query_datasets("calexp", "*", where=conditions)
    assert found.data_id["detector"] == 0
    assert str(~(x.exposure == 1) | (x.band != None)) == "(NOT (exposure = 1)) OR (band IS NOT NULL)"  # noqa: E711
    (found,) = butler.query_datasets("calexp", "*", where=x["calexp"].verdict == "it's bad")
    assert found.data_id["detector"] == 1
    with pytest.raises(AttributeError, match="exposure_time"):
        _ = x.visit.exposure_tim


# -- IPython ------------------------------------------------------------------------------------


IPYTHON = """
import json, sys
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from pantry.client import Butler

shell = InteractiveShell.instance()
shell.user_ns["butler"] = butler = Butler("demo", socket=sys.argv[1])
shell.user_ns["x"] = butler.expression_factory

def completed(text):
    with provisionalcompleter():
        return [text[: one.start] + one.text for one in shell.Completer.completions(text, len(text))]

cells = json.load(sys.stdin)
before = {cell: completed(cell) for cell in cells}
shell.run_line_magic("load_ext", "pantry.client")
loaded = {cell: completed(cell) for cell in cells}
shell.run_line_magic("unload_ext", "pantry.client")
after = {cell: completed(cell) for cell in cells}
json.dump({"before": before, "loaded": loaded, "after": after}, sys.stdout)
"""


CELLS = [
    ('butler.query_datasets("cal', 'butler.query_datasets("calexp'),
    ("butler.query_datasets('calexp', where='exposure.exp", "...exposure.exposure_time"),
    ("butler.query_datasets('calexp', where=\"band = 'r' AND calexp.f", "...calexp.fwhm"),
    ("a = 1\nfound = butler.query_datasets(\n    'calexp',\n    where=\"calexp.verdict = 'f", "...fine'"),
    ("!ls it's\nbutler.query_datasets('calexp', where=\"band = '", "...r'"),
    ("butler.query_datasets('calexp', 'u/", "...u/ann/one"),
    ("butler.query_datasets('calexp', collections=['u/", "...u/ann/one"),
    ("butler.get('calexp', inst", "...instrument="),
    ("butler.get('calexp', instrument='Te", "...TestCam"),
    ("butler.query_dimension_records('expo", "...exposure"),
    ("butler.query_data_ids(['instrument', 'expo", "...exposure"),
    ("butler.query_datasets('calexp', order_by='-exposure.obs_", "...-exposure.obs_id"),
    ("butler.dataset_types['cal", "...calexp"),
    ("butler.collections['u/", "...u/ann/one"),
    ("butler.dimensions['vis", "...visit"),
    ("x.exposure.exposure_t", "...exposure_time"),
    ("x['cal", "...calexp"),
    ("butler.complete_e", "butler.complete_expression"),
]


OTHERS = ["butler.get(1, '", "other.query_datasets('", "butler.get(butler.put('", "f('''", "((('"]


def test_ipython(butler: Butler, daemon: PantryDaemon) -> None:
    cells = [*dict(CELLS), *OTHERS]
    command = [sys.executable, "-c", IPYTHON, daemon.socket]
    ended = subprocess.run(command, input=json.dumps(cells), capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    answers = json.loads(ended.stdout)
    for typed, wanted in CELLS:
        found = answers["loaded"][typed]
        assert any(one.endswith(wanted.removeprefix("...")) for one in found), (typed, found)
        assert all(one.startswith(typed.rpartition("\n")[0]) for one in found)
    for typed in OTHERS:
        assert answers["loaded"][typed] == answers["before"][typed], typed
    assert answers["after"] == answers["before"]
    # What needs no extension.
    for typed in ("x.exposure.exposure_t", "x['cal", "butler.complete_e", "butler.dimensions['vis"):
        assert any(one.endswith(dict(CELLS)[typed].removeprefix("...")) for one in answers["before"][typed]), typed


def test_notebook_tables_escape_everything(butler: Butler) -> None:
    records = butler.query_dimension_records("instrument")
    (record,) = [one for one in records if one.name == HOSTILE]
    (data_id,) = butler.query_data_ids("instrument", instrument=HOSTILE)
    for shown in (records, record, butler.query_data_ids("instrument"), data_id):
        page = shown._repr_html_()  # type: ignore[attr-defined]
        assert "<b>" not in page
        assert "&lt;b&gt;" in page
    shown = butler.query_dimension_records("exposure")._repr_html_()  # type: ignore[attr-defined]
    assert shown.count("<tr>") == 52
    assert "50 more" in shown
    for thing in (butler, butler.dataset_types, butler.collections, butler.dimensions, butler.dataset_types["calexp"]):
        assert thing._repr_html_().startswith("<table>")
    assert isinstance(records, list)


# -- bash ---------------------------------------------------------------------------------------


class Bash:
    """A bash with completion, in a terminal; what is typed is printed, never run."""

    def __init__(self, daemon: PantryDaemon) -> None:
        environment = {
            **os.environ,
            "PANTRY_SOCKET": daemon.socket,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PS1": "$ ",
            "TERM": "dumb",
            "INPUTRC": "/dev/null",
        }
        self._bash = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "-i"],
            env=environment,
            encoding="utf-8",
            dimensions=(50, 400),
            timeout=30,
        )
        # Tells when completion is done; the words that come of it are seen by running the line as a printf.
        self._bash.sendline('eval "$(pantry completion bash)"; pantry() { printf "<%s>\\n" "$@"; }; echo re""ady')
        self._bash.expect_exact("ready\r\n")

    def words(self, typed: str, rest: str = "") -> list[str]:
        """Type, press Tab, type the rest, press Enter; give the words that the command would have had."""
        self._bash.send(typed + "\t")
        self._bash.sendline(rest + '; printf "%s\\n" en"d"')
        self._bash.expect_exact("end\r\n")
        before = self._bash.before
        return [line[1:-1] for line in before.splitlines() if line.startswith("<") and line.endswith(">")]

    def close(self) -> None:
        self._bash.close(force=True)


@pytest.fixture
def bash(daemon: PantryDaemon, butler: Butler) -> Iterator[Bash]:
    made = Bash(daemon)
    yield made
    made.close()


def test_bash(bash: Bash) -> None:
    # `type` and the completion run the real command; only the line itself runs our function.
    assert bash.words("pantry query-datasets demo cal") == ["query-datasets", "demo", "calexp"]
    # The only name: the operators come after it, and quotes stay open.
    line = bash.words('pantry query-datasets demo calexp -w "calexp.fw', '< 3"')
    assert line[-1] == "calexp.fwhm < 3"
    line = bash.words("pantry query-datasets demo calexp -w \"band = 'r' AND exposure.exposure_t", '> 30"')
    assert line[-1] == "band = 'r' AND exposure.exposure_time > 30"
    # Of two values one would be run by the shell, and is not offered; the other ends the expression.
    line = bash.words("pantry query-datasets demo calexp -w \"instrument = '")
    assert line[-1] == f"instrument = '{INSTRUMENT}'"
    assert bash.words("pantry query-dimension-records demo visit_de")[-1] == "visit_detector_region"
    assert bash.words("pantry query-data-ids demo ins")[-1] == "instrument"
    # Where there are no quotes, bash splits at the sign.
    assert bash.words("pantry query-datasets demo calexp -d instr", "T")[-1] == "instrument=T"
    assert bash.words("pantry query-datasets demo calexp -d instrument=Te")[-1] == f"instrument={INSTRUMENT}"
    assert bash.words("pantry query-datasets demo calexp -d instrument=")[-1] == f"instrument={INSTRUMENT}"
    assert bash.words("pantry get demo calexp exposure=1 detect", "1")[-2:] == ["exposure=1", "detector=1"]
    assert bash.words("pantry query-datasets demo calexp -c u/ann/o -d 'instrument=T")[-1] == f"instrument={INSTRUMENT}"
    assert bash.words("pantry query-datasets demo calexp -c u/bob,u/ann")[-1] == "u/bob,u/ann/one"
    assert bash.words('pantry query-datasets demo calexp -d "instrument=T')[-1] == f"instrument={INSTRUMENT}"


def test_bash_without_a_daemon_starts_none(daemon: PantryDaemon, butler: Butler, bash: Bash, tmp_path: Path) -> None:
    daemon.stop()
    assert bash.words('pantry query-datasets demo calexp -w "exposure.exposure_t', '"')[-1] == "exposure.exposure_t"
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PANTRY_SOCKET"},
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "HOME": str(tmp_path),
        "_PANTRY_COMPLETE": "bash_complete",
        "COMP_WORDS": "pantry query-datasets demo calexp -w exp",
        "COMP_CWORD": "5",
    }
    command = [sys.executable, "-m", "pantry.client.cli.main"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout.strip(), ended.stderr) == ("", ""), shlex.join(command)
    assert not (tmp_path / "run").exists()
