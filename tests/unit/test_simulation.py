from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from pantry.client.instruments import translate
from pantry.client.simulation import assemble, simulate_exposure, simulate_observing_night
from pantry.client.simulation.geometry import Amplifiers
from pantry.errors import FormatterError

SHAPE = (144, 512)
DATA = Path(__file__).parents[2] / "../shared/data/rubin"


@pytest.fixture(scope="module")
def exposure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "raw.fits"
    simulate_exposure(path, seq_num=3, day_obs=20260315, detector=94, seed=5, amplifier_shape=SHAPE, rotation_deg=30.0)
    return path


def test_it_is_a_raw_exposure(exposure: Path) -> None:
    found = translate(exposure)
    assert found.data_id == {"instrument": "LSSTCam", "exposure": 2026031500003, "detector": 94}
    assert found.records["exposure"]["has_simulated"] is True
    assert found.records["exposure"]["sky_angle"] == 30.0
    with fits.open(exposure, checksum=True) as hdus:
        hdus.verify("exception")
        assert len(hdus) == 17
        assert hdus["Segment10"].data.dtype == np.dtype(">i4")
        assert hdus["Segment10"].shape == (512, 144)


def test_fitsverify_finds_nothing(exposure: Path) -> None:
    done = subprocess.run(["fitsverify", "-q", exposure], capture_output=True, text=True, check=False)
    assert "verification OK" in done.stdout
    assert done.returncode == 0


def test_equal_arguments_equal_bytes() -> None:
    def content(**changes: int) -> bytes:
        file = io.BytesIO()
        arguments = {"seq_num": 1, "day_obs": 20260315, "detector": 4, "seed": 1, **changes}
        simulate_exposure(file, amplifier_shape=(64, 64), **arguments)
        return file.getvalue()

    assert content() == content()
    assert content() != content(seed=2)
    assert content() != content(seq_num=2)


def test_segment_wcs_and_sensor_wcs_are_one(exposure: Path) -> None:
    amplifiers = Amplifiers.of_shape(*SHAPE)
    with fits.open(exposure) as hdus:
        image = assemble(hdus)
        for index in range(16):
            ax, bx, ay, by = amplifiers.segment_to_sensor(index)
            sky = WCS(hdus[index + 1].header).wcs_pix2world([[50, 60]], 1)
            np.testing.assert_allclose(image.wcs.wcs_pix2world([[ax * 50 + bx, ay * 60 + by]], 1), sky, atol=1e-9)


def test_assembled_image(exposure: Path) -> None:
    with fits.open(exposure) as hdus:
        image = assemble(hdus)
    amplifiers = Amplifiers.of_shape(*SHAPE)
    assert image.shape == amplifiers.sensor_shape
    assert image.data.dtype == np.float32
    assert np.median(image.data) == pytest.approx(320.0, abs=3.0)  # the sky, without the bias
    assert image.data.max() > 5000
    for x in range(amplifiers.width, image.shape[1], amplifiers.width):  # no steps between the amplifiers
        assert np.median(image.data[:, x]) == pytest.approx(np.median(image.data[:, x - 1]), abs=6.0)


def test_real_raws_assemble() -> None:
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}: Rubin's test data are not part of the project")
    with fits.open(next((DATA / "latiss/raw").rglob("*.fits"))) as hdus:
        assert assemble(hdus).shape == (4000, 4072)


def test_stars_stay_on_the_sky_when_the_telescope_moves(tmp_path: Path) -> None:
    peaks = []
    for seq_num, dec in ((1, -28.100), (2, -28.102)):
        path = tmp_path / f"{seq_num}.fits"
        simulate_exposure(
            path, seq_num=seq_num, day_obs=20260315, detector=94, seed=5, amplifier_shape=SHAPE, dec_deg=dec
        )
        with fits.open(path) as hdus:
            image = assemble(hdus)
        y, x = np.unravel_index(np.argmax(image.data[100:900, 100:900]), (800, 800))
        peaks.append(image.wcs.wcs_pix2world([[x + 100, y + 100]], 0)[0])
    np.testing.assert_allclose(peaks[0], peaks[1], atol=4e-4)


def test_a_night(tmp_path: Path) -> None:
    paths = list(simulate_observing_night(tmp_path, 2, [90, 94], amplifier_shape=(64, 64)))
    assert [path.name for path in paths] == [
        "MC_S_20260315_000001_R22_S00.fits",
        "MC_S_20260315_000001_R22_S11.fits",
        "MC_S_20260315_000002_R22_S00.fits",
        "MC_S_20260315_000002_R22_S11.fits",
    ]
    assert [translate(path).records["band"]["name"] for path in paths] == ["g", "g", "r", "r"]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="no science detector 189"):
        simulate_exposure(io.BytesIO(), seq_num=1, day_obs=20260315, detector=189)
    with pytest.raises(ValueError, match="too small"):
        simulate_exposure(io.BytesIO(), seq_num=1, day_obs=20260315, detector=0, amplifier_shape=(8, 8))
    with pytest.raises(FormatterError, match="no amplifier segments"):
        assemble(fits.HDUList([fits.PrimaryHDU()]))
