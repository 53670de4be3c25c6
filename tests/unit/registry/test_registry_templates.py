"""Where new datasets are stored by templates, on both engines; what could collide is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.registry.world import CAMERA, DETECTORS, EXPOSURES, put, put_raw, record

from pantry.daemon.registry import Registry
from pantry.errors import ConfigError, DatasetTypeError, InvalidRequestError
from pantry.model.datasets import DatasetType
from pantry.model.templates import TemplateRule, Templates

RAW = "{instrument}/raws/{run}/{exposure:016d}_{detector:03d}"
FIRST = {"instrument": CAMERA, "exposure": EXPOSURES[0], "detector": 94}
STORED = f"{CAMERA}/raws/u/run/000{EXPOSURES[0]}_094"


@pytest.fixture
def templated(registry: Registry) -> Registry:
    registry.use_templates(
        Templates({"raw": RAW, "*_log": "logs/{run}/{instrument}/{dataset_type}_{band}_{exposure}"}, "pantry.yaml")
    )
    return registry


def registered(registry: Registry, name: str, *dimensions: str) -> None:
    registry.register_dataset_type(DatasetType(name=name, dimensions=dimensions, storage_class="Bytes"))


@pytest.mark.req("DMS-MWBT-REQ-0066")
def test_one_and_many_go_where_the_template_says(templated: Registry) -> None:
    assert templated.prepare_put("raw", "u/run", FIRST).path == f"{STORED}.fits"
    assert templated.prepare_put("raw", "u/run", FIRST, ".fits.fz").path == f"{STORED}.fits.fz"
    rows = [(CAMERA, exposure, detector) for exposure in EXPOSURES for detector in DETECTORS]
    prepared = templated.prepare_ingest(
        "raw", "u/run", ("instrument", "exposure", "detector"), rows, [".fits", None] * (len(rows) // 2)
    )
    assert prepared.paths == [f"{CAMERA}/raws/u/run/{row[1]:016}_{row[2]:03}.fits" for row in rows]
    registered(templated, "isr_log", "exposure")
    # What follows from a data id may stand in its path.
    exposure = {"instrument": CAMERA, "exposure": EXPOSURES[0]}
    assert (
        templated.prepare_put("isr_log", "r", exposure, ".txt").path == f"logs/r/TestCam/isr_log_r_{EXPOSURES[0]}.txt"
    )
    assert templated.prepare_put("config", "r", {}).path == "r/config/config.json"


def test_a_suffix_can_always_be_read_back(templated: Registry) -> None:
    with pytest.raises(InvalidRequestError, match="could not be told from its templated path"):
        templated.prepare_put("raw", "r", FIRST, ".ome.tiff")
    registered(templated, "throughput", "physical_filter")
    data_id = {"instrument": CAMERA, "physical_filter": "g.2"}
    assert templated.prepare_put("throughput", "r", data_id, ".fits").path.endswith("/throughput_TestCam_g.2.fits")
    assert templated.prepare_put("throughput", "r", data_id, "").path.endswith("/throughput_TestCam_g%2E2")
    other = {**data_id, "physical_filter": "r_01"}
    assert templated.prepare_put("throughput", "r", other, ".2.tiff").path.endswith("/throughput_TestCam_r_01%.2.tiff")
    # Behind an integer there is nothing to mistake.
    assert templated.prepare_put("bias", "r", FIRST, ".ome.tiff").path == f"r/bias/{CAMERA}/bias_{CAMERA}_94.ome.tiff"


def test_a_template_for_one_instrument_need_not_name_it(registry: Registry) -> None:
    only = TemplateRule(path="{run}/{exposure}_{detector:03d}", only={"instrument": CAMERA})
    registry.use_templates(Templates({"raw": only}, "pantry.yaml"))
    assert registry.prepare_put("raw", "r", FIRST).path == f"r/{EXPOSURES[0]}_094.fits"
    rows = [(CAMERA, exposure, 94) for exposure in EXPOSURES]
    assert registry.prepare_ingest("raw", "r", ("instrument", "exposure", "detector"), rows).paths[1] == (
        f"r/{EXPOSURES[1]}_094.fits"
    )
    registry.use_templates(Templates({"raw": TemplateRule(path=only.path, only={"instrument": "Other"})}))
    with pytest.raises(InvalidRequestError, match=r"of raw is only for instrument 'Other', not 'TestCam'"):
        registry.prepare_put("raw", "r", FIRST)
    with pytest.raises(InvalidRequestError, match="is only for instrument 'Other'"):
        registry.prepare_ingest("raw", "r", ("instrument", "exposure", "detector"), rows)
    for wrong, said in (
        ({"instrument": 5}, "instrument: 5 is no value"),
        ({"camera": "x"}, "camera: 'x' is no value"),
        ({"exposure": "x"}, "exposure: 'x' is no value"),
        ({"band": "r"}, "only for one band, which raw does not need"),
        ({"exposure": 5}, r"has no \{instrument\}"),
    ):
        with pytest.raises(ConfigError, match=said):
            registry.use_templates(Templates({"raw": TemplateRule(path=only.path, only=wrong)}))  # type: ignore[arg-type]


def test_components_that_are_stored_by_themselves(templated: Registry) -> None:
    templated.use_templates(
        Templates({"calexp*": "{run}/{instrument}/{dataset_type}/{visit}/{dataset_type}_{detector:03d}"})
    )
    registered(templated, "calexp.psf", "visit", "detector")
    data_id = {"instrument": CAMERA, "visit": EXPOSURES[0], "detector": 94}
    prepared = templated.prepare_put("calexp.psf", "r", data_id, ".json")
    # The first dot of a file's name begins the suffix.
    assert prepared.path == f"r/{CAMERA}/calexp.psf/{EXPOSURES[0]}/calexp-psf_094.json"
    with pytest.raises(ConfigError, match=r"a calexp\.psf and a calexp could both be"):
        templated.use_templates(Templates({"calexp*": "{run}/{instrument}/x{visit}/{detector:03d}"}))


def test_the_path_is_recorded_and_outlives_the_template(templated: Registry) -> None:
    old = put_raw(templated, "u/run")
    templated.use_templates(Templates({"raw": "elsewhere/{run}/{instrument}/{exposure}/{detector}"}))
    new = put_raw(templated, "u/run", EXPOSURES[1])
    found = [templated.get_dataset(one) for one in (old, new)]
    assert [one.file.path for one in found if one.file] == [
        f"{STORED}.fits",
        f"elsewhere/u/run/{CAMERA}/{EXPOSURES[1]}/94.fits",
    ]
    assert [one.name for one in found] == [f"raw_{CAMERA}_{one}_94.fits" for one in EXPOSURES[:2]]


@pytest.mark.parametrize(
    ("name", "dimensions", "said"),
    [
        ("other_log", ("visit",), r"has \{exposure\}, which is no dimension of other_log"),
        ("x_log", ("exposure", "detector"), r"it has no \{detector\}, so that datasets of different detector"),
        ("flat", ("physical_filter",), r"a flat and a bias could both be 'a/raws/bias/a/bias_a_1'"),
    ],
)
def test_a_type_that_could_share_a_path_is_not_registered(
    templated: Registry, name: str, dimensions: tuple[str, ...], said: str
) -> None:
    templated.use_templates(
        Templates(
            {
                "raw": RAW,
                "flat": "{instrument}/raws/{run}/{physical_filter}",
                "*_log": "l/{run}/{exposure}_{instrument}",
            }
        )
    )
    with pytest.raises(DatasetTypeError, match=said):
        registered(templated, name, *dimensions)
    assert name not in {one.name for one in templated.list_dataset_types()}
    registered(templated, "fine", *dimensions)


def test_default_paths_count_too(templated: Registry) -> None:
    templated.use_templates(Templates({"log": "{run}/{dataset_type}/{instrument}/{physical_filter}"}))
    with pytest.raises(DatasetTypeError, match=r"by templates of this repository|a log and a .* could both be"):
        registered(templated, "log", "physical_filter")
    registered(templated, "other", "physical_filter")
    with pytest.raises(ConfigError, match=r"pantry\.yaml\.other: for other: a other and a \w+ could both be"):
        templated.use_templates(Templates({"other": "{run}/{instrument}/{physical_filter}"}, "pantry.yaml"))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "1 to 500 characters"),
        ("/a/{run}/{exposure}", "is absolute"),
        ("a//{run}/{exposure}", "empty part"),
        ("{run}/{exposure}/", "empty part"),
        ("../{run}/{exposure}", "'..' begins with a dot"),
        (".pantry-x/{run}/{exposure}", "begins with a dot"),
        ("{run}/{exposure}.fits", "leave '.fits' out"),
        ("{run}/a b", "' ' cannot stand in a path"),
        ("{run}/%41{exposure}", "'%' cannot stand in a path"),
        ("{run}/{exposure", "'{' has no other half"),
        ("{run}/{}", "{} is no field"),
        ("{run}/{exposure:d}", "only integers have one"),
        ("{run}/{exposure:099d}", "only integers have one"),
        ("{run:/}/{exposure}", "write {run} in place of {run:/}"),
        ("{run:s}/{exposure}", "has a format that is not known"),
        ("{exposure}", "has no {run}"),
        ("x_{run}/{exposure}", "alone between slashes"),
        ("{exposure}/{run}", "not as the file's name"),
        ("{run}/{run}/{exposure}", "{run} stands once"),
        ("{run}/" + "x" * 240, "a part has at least 240 bytes"),
        ("{run}/{expsure}", "unknown field {expsure}"),
        ("{run}/{datasetType}", "unknown field {datasetType}"),
        ("{run}/{exposure}_{band:02d}", "band is text"),
        ("{run}/{tract}", "which is no dimension of raw"),
        ("{run}/{exposure}_{detector}", "has no {instrument}"),
        (
            "{run}/{instrument}/{exposure}{detector}",
            "'111' can be exposure 1, detector 11, and also exposure 11, detector 1",
        ),
    ],
)
def test_a_wrong_template_is_found_at_once_with_its_place(registry: Registry, template: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.use_templates(Templates({"raw": template}, "/repo/pantry.yaml: templates"))
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.message.startswith("/repo/pantry.yaml: templates.raw: ")
    # Nothing was taken.
    assert put(registry, "raw", "run", **FIRST)  # type: ignore[arg-type]


def test_names_and_patterns() -> None:
    given = {"*": "{run}/{dataset_type}/x", "raw*": "{run}/{dataset_type}/y", "raw": "{run}/{dataset_type}/z"}
    templates = Templates(given)
    assert [templates.key_of(name) for name in ("raw", "raw_x", "x")] == ["raw", "raw*", "*"]
    for wrong in ("raw/wcs", "", "a b", "x" * 200):
        with pytest.raises(ConfigError, match="no dataset type's name"):
            Templates({wrong: "{run}/x"})


@pytest.fixture
def other_daemon(registry: Registry, registry_url: str) -> Iterator[Registry]:
    opened = Registry.open(registry_url)
    yield opened
    opened.close()


def test_what_another_daemon_registered_counts(templated: Registry, other_daemon: Registry) -> None:
    templates = Templates({"a_log": "{run}/{instrument}/x{exposure}", "b_log": "{run}/{instrument}/x{exposure}"})
    templated.use_templates(templates)
    other_daemon.use_templates(templates)
    registered(other_daemon, "a_log", "exposure")
    with pytest.raises(DatasetTypeError, match="a b_log and a a_log could both be"):
        registered(templated, "b_log", "exposure")


def test_a_default_path_that_could_be_anothers_is_written_differently(registry: Registry) -> None:
    # Whatever the types are called, and with no template at all: see decision 0043.
    registry.insert_dimension_records(
        [
            *[record("instrument", name=name) for name in ("flat", "x")],
            record("group", instrument="flat", name="x"),
            record("physical_filter", instrument="flat", name="5", band="r"),
            record("physical_filter", instrument="x", name="flat_x_5", band="r"),
        ]
    )
    registered(registry, "flat", "physical_filter")
    registered(registry, "flat_x", "group", "physical_filter")
    long = registry.prepare_put("flat_x", "r", {"instrument": "flat", "group": "x", "physical_filter": "5"}, "")
    assert long.path == "r/flat_x/flat/x/flat_x_flat_x_5"
    short = {"instrument": "x", "physical_filter": "flat_x_5"}
    assert registry.prepare_put("flat", "r/flat_x", short, "").path == "r/flat_x/flat/x/flat_x_flat%5Fx%5F5"
    assert registry.prepare_put("flat", "r/flat_y", short, "").path == "r/flat_y/flat/x/flat_x_flat_x_5"
