"""Texts about raws: definitions of instruments, corrections, configurations; what is wrong with them is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_merged_headers import MERGE
from tests.integration.test_text_instruments import HEADER, parsed

from pantry.client.butler.forms import user_formats
from pantry.client.instruments import translate
from pantry.client.instruments.corrections import CorrectionList, Corrections, decode_corrections, read_corrections
from pantry.client.instruments.definition import load_definition
from pantry.client.instruments.described import translator_of
from pantry.errors import ConfigError, FormatterError, InvalidRequestError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CHIP": "W"}, "'W' is no detector of HillCam"),
        ({"DATE-OBS": None}, "keyword DATE-OBS is missing"),
        ({"DATE-OBS": "yesterday"}, "DATE-OBS = 'yesterday' is no datetime_begin"),
        ({"EXPMIN": "long"}, "EXPMIN = 'long' is no exposure_time"),
        ({"EXPMIN": None}, "keyword EXPMIN is missing"),
        ({"IMGID": "night"}, "IMGID = 'night' does not match"),
        ({"OBJCTDEC": "+95 00 00"}, "95"),
        ({"INSTRUME": "Dale 20"}, r"no translator for INSTRUME = 'Dale 20'\n  hint: instruments known: .*HillCam"),
    ],
)
def test_what_headers_do_not_tell(changes: dict[str, Any], message: str) -> None:
    hill = translator_of(load_definition(parsed()))
    with pytest.raises(FormatterError, match=message):
        translate({**HEADER, **changes}, name="a.fit", translators=[hill])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a b"}, "name: 'a b' cannot be that of an instrument"),
        ({"colour": "red"}, "colour"),
        ({"detectors": []}, "detectors: 1 to"),
        ({"detectors": [{"id": 1, "full_name": "a"}, {"id": 1, "full_name": "b"}]}, "two have the same id"),
        ({"header": {"exposure_id": {"keyword": "A"}}}, "where datetime_begin, exposure_time comes from"),
        ({"+": {"seeing": {"keyword": "A"}}}, r"header\.seeing: unknown property"),
        ({"+": {"object": {}}}, r"header\.object: one of keyword, constant and template, not none"),
        ({"+": {"object": {"keyword": "A", "constant": 1}}}, "not keyword and constant"),
        ({"+": {"exposure_time": {"keyword": "A", "unit": "m"}}}, r"header\.exposure_time\.unit"),
        ({"+": {"object": {"keyword": "A", "unit": "s"}}}, r"header\.object\.unit: it has none"),
        ({"+": {"object": {"keyword": "A", "pattern": "("}}}, r"header\.object\.pattern"),
        ({"+": {"object": {"keyword": "A", "pattern": "a"}}}, "0 groups in place of one"),
        ({"+": {"object": {"template": "{object.__class__}"}}}, r"header\.object\.template: write"),
        (
            {"+": {"object": {"template": "{observation_id}"}, "observation_id": {"template": "{object}"}}},
            "in a circle",
        ),
        ({"+": {"tracking_radec": {"keyword": "RA"}}}, "two keywords"),
    ],
)
def test_mistakes_in_a_definition(changes: dict[str, Any], message: str) -> None:
    definition = parsed()
    definition["header"].update(changes.pop("+", {}))
    with pytest.raises(ConfigError, match=message):
        load_definition({**definition, **changes})


@pytest.mark.parametrize(
    ("correction", "message"),
    [
        ({"header": {"A": 1}}, "name either an observation or an exposure"),
        ({"observation": "x", "exposure": 1, "header": {"A": 1}}, "name either an observation or an exposure"),
        ({"observation": "x"}, "corrects nothing"),
        ({"observation": "x", "header": {"NAXIS1": 1}}, "'NAXIS1' is of the file's structure"),
        ({"observation": "x", "header": {"exp time": 1}}, "'exp time' cannot be a keyword"),
        ({"observation": "x", "header": {"EXPTIME": float("nan")}}, "EXPTIME = nan is no value"),
        ({"observation": "x", "header": {"OBJECT": "M\N{LATIN SMALL LETTER E WITH ACUTE}"}}, "printable ASCII"),
        ({"observation": "x", "header": {"OBJECT": [1]}}, r"number 1: .*header"),
        ({"exposure": 2, "last_exposure": 1, "header": {"A": 1}}, "last_exposure is not before exposure"),
        ({"observaton": "x", "header": {"A": 1}}, "observaton"),
    ],
)
def test_corrections_that_make_no_sense(correction: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        decode_corrections({"corrections": [correction]}, "number 1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": ""}, r"raw\.headers\.merge\[0\]: give one of table, record and topic"),
        ({"record": "exposure"}, "give one of table, record and topic"),
        ({"collections": []}, "in which collections is weather searched"),
        ({"values": {}}, "1 to 200 keywords"),
        ({"values": {"NAXIS": "wind"}}, "'NAXIS' is of the file's structure"),
        ({"values": {"A": "wind [m"}}, "write 'column' or"),
        ({"within_s": -1.0}, "must be positive"),
        ({"method": "guess"}, "guess"),
        ({"colums": 1}, "colums"),
    ],
)
def test_mistakes_in_a_configuration_of_headers(changes: dict[str, Any], message: str) -> None:
    """They show when it is loaded."""
    with pytest.raises(ConfigError, match=message):
        user_formats({"dataset_types": {"raw": {"headers": {"merge": [{**MERGE, **changes}]}}}})


def test_the_later_correction_wins_and_withdrawal_clears() -> None:
    said = [
        {"observation": "a", "header": {"A": 1, "B": 1}, "when": "2026-01-01", "who": "ann"},
        {"exposure": 5, "last_exposure": 9, "header": {"B": 2}, "when": "2026-01-02"},
        {"exposure": 7, "detector": 1, "withdraw": True, "when": "2026-01-03"},
        {"exposure": 7, "header": {"C": None}, "when": "2026-01-04"},
    ]
    lists = [CorrectionList(corrections=decode_corrections({"corrections": [one]}, "x").corrections) for one in said]
    found = Corrections(lists)

    def values(*which: Any) -> dict[str, Any]:
        return {keyword: change.value for keyword, change in found.of(*which).items()}

    assert values("a", 7, 0) == {"A": 1, "B": 2, "C": None}
    assert values("a", 7, 1) == {"C": None}
    assert values("a", 4, 1) == {"A": 1, "B": 1}
    assert values("b", 9, 0) == {"B": 2}
    assert values("", None, None) == {}
    found = Corrections(lists, until="2026-01-03")
    assert values("a", 7, 1) == {"A": 1, "B": 2}
    assert found.of("a", None, None)["A"].source == "ann, 2026-01-01"


def test_files_of_corrections(tmp_path: Path) -> None:
    (tmp_path / "LATISS-AT_O_20240624_000106.yaml").write_text("DATE-BEG: 2024-06-25T01:27:55.160\nEXPTIME: 30.0\n")
    (tmp_path / "LSSTCam-MC_O_1.yaml").write_text("EXPTIME: 1\n")
    (tmp_path / "more.yaml").write_text("corrections:\n- {exposure: 1, header: {A: 1}}\n")
    one, two = read_corrections([tmp_path], "LATISS")
    assert one.observation == "AT_O_20240624_000106"
    # Times stay text, as in cards.
    assert one.header == {"DATE-BEG": "2024-06-25T01:27:55.160", "EXPTIME": 30.0}
    assert two.exposure == 1
    for content, message in (("- 1", "not a mapping"), ("a: [", "not YAML"), ("A: [1, 2]", "no single value: A")):
        bad = tmp_path / "LATISS-bad.yaml"
        bad.write_text(content)
        with pytest.raises(InvalidRequestError, match=message):
            read_corrections([bad], "LATISS")


def test_files_in_the_path_of_astro_metadata_translator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold where they are, and a repository's corrections over them."""
    from tests.integration.test_header_corrections import HEADER as LATISS

    from pantry.client.instruments.amending import Plan, amend
    from pantry.client.instruments.rubin_cameras import LatissTranslator

    (tmp_path / f"LATISS-{LATISS['OBSID']}.yaml").write_text("IMGTYPE: BIAS\nREASON: TEST\n")
    monkeypatch.setenv("METADATA_CORRECTIONS_PATH", str(tmp_path))
    said = decode_corrections({"corrections": [{"observation": LATISS["OBSID"], "header": {"REASON": "x"}}]}, "x")
    amended = amend(LATISS, LatissTranslator, Plan(corrections=Corrections([said])))
    assert (amended.keywords["IMGTYPE"], amended.keywords["REASON"]) == ("BIAS", "x")
    assert {one.keyword: Path(one.source).name for one in amended.amendments if one.keyword == "IMGTYPE"} == {
        "IMGTYPE": f"LATISS-{LATISS['OBSID']}.yaml"
    }
    assert not [keyword for keyword in amended.keywords if "METADATA FIX" in keyword]
    assert LATISS["IMGTYPE"] == "CWFS"


@pytest.mark.parametrize(
    ("day", "counter", "rotation"),
    [(20250301, 1, 100.0), (20250302, 1, 10.0), (20250421, 1, 10.0), (20250422, 250, 280.0), (20250422, 251, 100.0)],
)
def test_the_nights_on_which_the_rotation_was_wrong(day: int, counter: int, rotation: float) -> None:
    from tests.unit.test_instruments import HEADER as LSSTCAM

    header = {
        **LSSTCAM, "DAYOBS": str(day), "SEQNUM": counter, "ROTPA": 100.0, "ROTCOORD": "sky", "RA": 1.0, "DEC": 2.0,
        "TRACKSYS": "RADEC",
    }  # fmt: skip
    assert translate(header).records["exposure"]["sky_angle"] == pytest.approx(rotation)


def test_a_closed_dome_and_clocks_that_were_not_set() -> None:
    from tests.integration.test_header_corrections import HEADER as LATISS
    from tests.unit.test_instruments import HEADER as LSSTCAM

    closed = {**LSSTCAM, "DAYOBS": "20250707", "SEQNUM": 800, "VIGN_MIN": "NO", "IMGTYPE": "FLAT"}
    closed["DATE-BEG"] = "2025-07-07T20:00:00.000"
    assert translate(closed).records["exposure"]["can_see_sky"] is False
    assert translate({**closed, "SEQNUM": 850}).records["exposure"]["can_see_sky"] is True
    early = {**LATISS, "DAYOBS": "20190915", "DATE-OBS": "1970-01-01T00:00:00", "DATE": "2019-09-16T01:00:00.000"}
    record = translate({**early, "DATE-BEG": "1970-01-01T00:00:00", "MJD": None}).records["exposure"]
    assert record["timespan_begin"] == 1568595600_000_000_000
