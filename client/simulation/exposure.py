"""Raw exposures of a simulated LSSTCam: sky, stars, bias, overscan and noise, in the layout of real raw files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS

from pantry.client.instruments.cameras import CAMERAS, Detector
from pantry.client.simulation.geometry import SEGMENTS, Amplifiers, segment_wcs_cards, sensor_wcs

FULL_AMPLIFIER = (576, 2048)
_CADENCE_S = 39.0
_EXPOSURE_S = 30.0
_GAIN = 1.6
"""Electrons per adu."""
_READ_NOISE_ADU = 5.0
_SKY_ADU = {"u": 60.0, "g": 180.0, "r": 320.0, "i": 480.0, "z": 620.0, "y": 700.0}
_STAR_BOX = 9


def simulate_exposure(
    path_or_file: str | os.PathLike[str] | BinaryIO,
    *,
    seq_num: int,
    day_obs: int,
    detector: int,
    physical_filter: str = "r_57",
    seed: int = 0,
    amplifier_shape: tuple[int, int] = FULL_AMPLIFIER,
    ra_deg: float = 53.1,
    dec_deg: float = -28.1,
    rotation_deg: float = 0.0,
    n_stars: int = 400,
) -> None:
    """Write a raw exposure of one detector of a simulated LSSTCam.

    Equal arguments give equal bytes. The stars are those of one sky: exposures of the same seed and pointing see the
    same ones, with other noise.

    Parameters
    ----------
    path_or_file : str, path or binary file object
        Where the FITS file goes; a file object is left open.
    seq_num, day_obs : int
        The exposure's number within the day, and the day as YYYYMMDD.
    detector : int
        A science detector of LSSTCam, 0 to 188.
    physical_filter : str, optional
        As in LSSTCam: ``u_24``, ``g_6``, ``r_57``, ``i_39``, ``z_20``, ``y_10``.
    seed : int, optional
        Selects the sky and the noise.
    amplifier_shape : tuple of int, optional
        Width and height of an amplifier with overscan, in pixels. The default gives files of 75 MB,
        (144, 512) of 4.7 MB; smaller sensors have larger pixels and see the same sky.
    ra_deg, dec_deg, rotation_deg : float, optional
        ICRS pointing and position angle in degrees.
    n_stars : int, optional
        Stars on the detector.

    Raises
    ------
    ValueError
        If there is no such detector, or a number is out of range.
    """
    science = [known for known in CAMERAS["LSSTCam"].detectors.values() if known.purpose == "SCIENCE"]
    if not 0 <= detector < len(science):
        raise ValueError(f"no science detector {detector}; LSSTCam has 0 to {len(science) - 1}")
    amplifiers = Amplifiers.of_shape(*amplifier_shape)
    sensor = science[detector]
    wcs = sensor_wcs(amplifiers, sensor.raft, sensor.name_in_raft, ra_deg, dec_deg, rotation_deg)
    pointing = {"RA": ra_deg, "DEC": dec_deg, "ROTPA": rotation_deg}
    band = CAMERAS["LSSTCam"].band(physical_filter)
    electrons = _sky_image(amplifiers, wcs, band, np.random.default_rng([seed, detector]), n_stars)
    noise = np.random.default_rng([seed, detector, day_obs, seq_num])
    hdus = fits.HDUList(
        [fits.PrimaryHDU(header=_primary_header(seq_num, day_obs, sensor, physical_filter, band, seed, pointing))]
    )
    for index in range(len(SEGMENTS)):
        hdus.append(_segment(amplifiers, index, wcs, electrons, noise))
    destination: Any = nullcontext(path_or_file)
    if isinstance(path_or_file, str | os.PathLike):
        destination = open(path_or_file, "wb")  # noqa: SIM115 (closed by the with below)
    with destination as file:
        for hdu in hdus:
            _add_checksums(hdu)
        hdus.writeto(file)


def simulate_observing_night(
    directory: str | os.PathLike[str],
    n_exposures: int,
    detectors: Iterable[int],
    *,
    day_obs: int = 20260315,
    physical_filters: Sequence[str] = ("g_6", "r_57", "i_39"),
    seed: int = 0,
    amplifier_shape: tuple[int, int] = FULL_AMPLIFIER,
) -> Iterator[Path]:
    """Write the raw files of a night one by one, and yield the path of each when it is complete.

    Files are named as the summit names them: ``MC_S_20260315_000001_R22_S11.fits``. Every exposure uses the next filter
    and is dithered by some arc minutes.
    """
    science = list(CAMERAS["LSSTCam"].detectors.values())
    numbers = list(detectors)
    dither = np.random.default_rng([seed, day_obs]).uniform(-0.05, 0.05, (n_exposures, 2))
    for seq_num, (x, y) in enumerate(dither, start=1):
        for number in numbers:
            path = Path(directory, f"MC_S_{day_obs}_{seq_num:06d}_{science[number].full_name}.fits")
            simulate_exposure(
                path,
                seq_num=seq_num,
                day_obs=day_obs,
                detector=number,
                physical_filter=physical_filters[(seq_num - 1) % len(physical_filters)],
                seed=seed,
                amplifier_shape=amplifier_shape,
                ra_deg=53.1 + float(x),
                dec_deg=-28.1 + float(y),
            )
            yield path


def _sky_image(amplifiers: Amplifiers, wcs: WCS, band: str, rng: np.random.Generator, n_stars: int) -> Any:
    """Return the expected electrons of every pixel of the sensor: flat sky and stars of a Gaussian profile."""
    height, width = amplifiers.sensor_shape
    sky = _SKY_ADU.get(band, 300.0)
    image = np.full((height, width), sky * _GAIN, dtype=np.float32)
    # The catalogue is on the sky, around where the sensor looks undithered, so that dithers move the stars.
    offsets = rng.uniform(-0.14, 0.14, (n_stars, 2))
    flux = 3e3 * rng.pareto(1.1, n_stars) + 2e3
    centre = wcs.wcs_pix2world([[width / 2, height / 2]], 0)[0].round(1)
    ra = centre[0] + offsets[:, 0] / np.cos(np.deg2rad(centre[1]))
    x, y = wcs.wcs_world2pix(np.column_stack([ra, centre[1] + offsets[:, 1]]), 0).T
    half = _STAR_BOX
    steps = np.arange(-half, half + 1)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    sigma = 0.8 if width < 2000 else 1.7
    profile_x = np.exp(-0.5 * ((column - x)[:, None] + steps) ** 2 / sigma**2)
    profile_y = np.exp(-0.5 * ((row - y)[:, None] + steps) ** 2 / sigma**2)
    stamps = (
        (np.minimum(flux, 1e6) / (2 * np.pi * sigma**2))[:, None, None] * profile_y[:, :, None] * profile_x[:, None]
    )
    rows = (row[:, None] + steps)[:, :, None]
    columns = (column[:, None] + steps)[:, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = np.broadcast_arrays(rows, columns)
    np.add.at(image, (rows[inside], columns[inside]), stamps[inside].astype(np.float32))
    return np.minimum(image, 150_000.0)


def _segment(amplifiers: Amplifiers, index: int, wcs: WCS, electrons: Any, noise: np.random.Generator) -> fits.ImageHDU:
    x, y, upper = amplifiers.origin(index)
    light = electrons[y : y + amplifiers.height, x : x + amplifiers.width][:: -1 if upper else 1, ::-1]
    bias = 22_000.0 + 150.0 * index
    pixels = noise.standard_normal((amplifiers.full_height, amplifiers.full_width), dtype=np.float32)
    exposed = pixels[: amplifiers.height, amplifiers.prescan : amplifiers.prescan + amplifiers.width]
    pixels *= _READ_NOISE_ADU
    # Shot noise by its normal limit (there are hundreds of electrons), added in quadrature: one draw per pixel.
    exposed *= np.sqrt(1.0 + light / (_GAIN * _READ_NOISE_ADU) ** 2)
    exposed += light / _GAIN
    pixels += bias
    header = fits.Header([("EXTNAME", SEGMENTS[index]), ("CHANNEL", index + 1), ("CCDSUM", "1 1"), ("BUNIT", "adu")])
    header.update(amplifiers.sections(index))
    header.extend(segment_wcs_cards(amplifiers, index, wcs))
    return fits.ImageHDU(data=np.rint(pixels).astype(np.int32), header=header)


def _primary_header(
    seq_num: int,
    day_obs: int,
    sensor: Detector,
    physical_filter: str,
    band: str,
    seed: int,
    pointing: dict[str, float],
) -> fits.Header:
    date = f"{day_obs // 10000:04d}-{day_obs // 100 % 100:02d}-{day_obs % 100:02d}"
    # Nights begin at 23:30 TAI in this simulation.
    evening = Time(f"{date}T23:30:00", format="isot", scale="tai", precision=3)
    begin = evening + TimeDelta(seq_num * _CADENCE_S, format="sec")
    end = begin + TimeDelta(_EXPOSURE_S + 0.43, format="sec")
    obs_id = f"MC_S_{day_obs}_{seq_num:06d}"
    elevation = 70.0 - 0.01 * seq_num
    return fits.Header(
        [
            ("DATE", end.isot, "[TAI] Creation date of the header"),
            ("DATE-OBS", begin.isot, "[TAI] Start of the exposure"),
            ("MJD-OBS", begin.mjd, "[d] Start of the exposure"),
            ("DATE-BEG", begin.isot, "[TAI] Start of the exposure"),
            ("MJD-BEG", begin.mjd, "[d] Start of the exposure"),
            ("DATE-END", end.isot, "[TAI] End of the exposure"),
            ("MJD-END", end.mjd, "[d] End of the exposure"),
            ("TIMESYS", "TAI", "Time scale of all dates"),
            ("INSTRUME", "lsstCam", "Instrument that is simulated"),
            ("TELESCOP", "Simonyi Survey Telescope", "Telescope that is simulated"),
            ("ORIGIN", "Pantry simulation", "Not an observation"),
            ("SIMULATE", True, "All of this file is simulated"),
            ("SIMSEED", seed, "Seed of the simulation"),
            ("OBSGEO-X", 1818938.94, "[m] Geocentric position"),
            ("OBSGEO-Y", -5208470.95, "[m] Geocentric position"),
            ("OBSGEO-Z", -3195172.08, "[m] Geocentric position"),
            ("CAMCODE", "MC", "Code of the camera"),
            ("CONTRLLR", "S", "Controller: S, simulation"),
            ("DAYOBS", str(day_obs), "Day of observation"),
            ("SEQNUM", seq_num, "Number of the exposure within the day"),
            ("OBSID", obs_id, "Name of the exposure"),
            ("GROUPID", begin.isot, "Group of exposures"),
            ("FILENAME", f"{obs_id}_{sensor.full_name}.fits", "Original file name"),
            ("CURINDEX", 1, "Number of the exposure in its sequence"),
            ("MAXINDEX", 1, "Exposures in the sequence"),
            ("IMGTYPE", "OBJECT", "Type of the image"),
            ("TESTTYPE", "OBJECT", "Type of the image"),
            ("REASON", "simulation", "Why it was taken"),
            ("PROGRAM", "PANTRY-DEMO", "Observing programme"),
            ("OBJECT", "SIMULATED-FIELD", "Name of the field"),
            ("RAFTBAY", sensor.raft, "Raft"),
            ("CCDSLOT", sensor.name_in_raft, "Sensor in the raft"),
            ("CCD_MANU", "SIM", "No manufacturer: simulated"),
            ("LSST_NUM", f"SIM-{sensor.id:03d}", "No serial number: simulated"),
            ("FILTER", physical_filter, "Physical filter"),
            ("FILTBAND", band, "Band of the filter"),
            ("EXPTIME", _EXPOSURE_S, "[s] Exposure time"),
            ("SHUTTIME", _EXPOSURE_S, "[s] Time the shutter was open"),
            ("DARKTIME", _EXPOSURE_S + 0.43, "[s] Dark time"),
            ("RA", pointing["RA"], "[deg] Pointing"),
            ("DEC", pointing["DEC"], "[deg] Pointing"),
            ("RADESYS", "ICRS", "Frame of the pointing"),
            ("ROTPA", pointing["ROTPA"], "[deg] Position angle"),
            ("ROTCOORD", "sky", "Frame of the position angle"),
            ("TRACKSYS", "RADEC", "The telescope follows the sky"),
            ("ELSTART", elevation, "[deg] Elevation at the start"),
            ("AZSTART", 120.0, "[deg] Azimuth at the start"),
            ("VIGNETTE", "NO", "Vignetting by the dome"),
            ("VIGN_MIN", "NO", "Least vignetting during the exposure"),
            ("CCDGAIN", _GAIN, "[electron/adu] Gain"),
            ("CCDNOISE", _READ_NOISE_ADU * _GAIN, "[electron] Read noise"),
            ("BINX", 1, "[pix] Binning along x"),
            ("BINY", 1, "[pix] Binning along y"),
        ]
    )


def _add_checksums(hdu: Any) -> None:
    """Add CHECKSUM and DATASUM without today's date in their comments, so that equal input gives equal bytes."""
    hdu.add_datasum(when="data unit checksum")
    hdu.add_checksum(when="HDU checksum")
