"""A real TAP, cone search and SIA service: GAVO DaCHS from Debian's package, on loopback, with throw-away data.

It stands on the session's PostgreSQL server, in a database of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import psycopg
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import ServerError, ServerProcess, free_ports, http_answer

_USER = "postgres"
_DATABASE = "gavo"

STARS = 100_000
"""Rows of ``cat.stars``."""

_SETTINGS = """\
[general]
rootDir: {root}
tempDir: {root}/tmp
cacheDir: {root}/cache
logDir: {root}/logs
stateDir: {root}/state
group: {group}
gavoGroup: {group}
[web]
serverURL: http://127.0.0.1:{port}
bindAddress: 127.0.0.1
serverPort: {port}
user: {group}
[async]
defaultExecTime: 120
maxTAPRunning: 4
defaultMAXREC: 20000
hardMAXREC: 400000
[ivoa]
authority: x-test.local
dalDefaultLimit: 20000
"""

_RESOURCE = """\
<resource schema="cat">
  <meta name="title">Stars to test with</meta>
  <meta name="creationDate">2024-01-01T00:00:00Z</meta>
  <meta name="description">Invented stars, for tests.</meta>
  <meta name="creator.name">Nobody</meta>
  <meta name="subject">catalogs</meta>
  <meta name="_dataUpdated">2024-01-01T00:00:00</meta>
  <table id="stars" onDisk="True" adql="True" mixin="//scs#q3cindex">
    <column name="star_id" type="bigint" ucd="meta.id;meta.main" required="True" description="Number of the star"/>
    <column name="name" type="text" ucd="meta.id" description="What it is called, &lt;if&gt; it is called anything"/>
    <column name="ra" type="double precision" unit="deg" ucd="pos.eq.ra;meta.main" description="Right ascension"/>
    <column name="dec" type="double precision" unit="deg" ucd="pos.eq.dec;meta.main" description="Declination"/>
    <column name="mag" type="real" unit="mag" ucd="phot.mag;em.opt.V" description="Magnitude; none for some"/>
    <column name="n_obs" type="integer" ucd="meta.number" description="Observations"><values nullLiteral="-1"/></column>
    <column name="flags" type="smallint" required="True" description="Flags"/>
    <column name="band" type="char(1)" description="Band"/>
    <column name="epoch" type="timestamp" ucd="time.epoch" description="When"/>
    <column name="is_variable" type="boolean" required="True" description="Whether it varies"/>
    <column name="fluxes" type="real[3]" unit="Jy" ucd="phot.flux" description="In three bands"/>
  </table>
  <table id="images" onDisk="True" adql="True">
    <mixin preview="NULL" productType="'image'" calibLevel="2" collectionName="'test'" obsId="image_id" title="image_id"
      targetName="NULL" did="'ivo://x-test.local/~?' || image_id" sResolution="1"
      tMin="mjd" tMax="mjd + 0.001" tResolution="NULL"
      emMin="4e-7" emMax="6e-7" facilityName="'TestTel'" instrumentName="'TestCam'"
      oUCD="'phot.count'"
      accessURL="url" mime="'image/fits'" size="100" coverage="NULL"
      ra="ra" dec="dec" fov="0.1" expTime="30" creatorDID="NULL" createDIDIndex="False"
      >//obscore#publish</mixin>
    <column name="image_id" type="text" description="Name of the image"/>
    <column name="url" type="text" description="Where it is"/>
    <column name="ra" type="double precision" unit="deg" ucd="pos.eq.ra;meta.main" description="Right ascension"/>
    <column name="dec" type="double precision" unit="deg" ucd="pos.eq.dec;meta.main" description="Declination"/>
    <column name="mjd" type="double precision" unit="d" description="When"/>
  </table>
  <data id="import"><make table="stars"/><make table="images"/></data>
  <service id="cone" allowed="scs.xml">
    <meta name="shortName">cat cone</meta>
    <meta name="testQuery.ra">10</meta><meta name="testQuery.dec">10</meta><meta name="testQuery.sr">1</meta>
    <scsCore queriedTable="stars"><FEED source="//scs#coreDescs"/></scsCore>
  </service>
</resource>
"""

_STARS = """
INSERT INTO cat.stars (star_id, name, ra, dec, mag, n_obs, flags, band, epoch, is_variable, fluxes)
SELECT 9007199254740993 + i,
    CASE WHEN i %% 7 = 0 THEN NULL WHEN i %% 7 = 1 THEN 'O''Neill ' || i WHEN i %% 7 = 2 THEN 'Звезда <&> ' || i
        ELSE 'Star ' || i END,
    (i * 0.7548776662) %% 1.0 * 360.0, degrees(asin(2.0 * ((i * 0.5698402910) %% 1.0) - 1.0)),
    CASE WHEN i %% 11 = 0 THEN NULL ELSE 5.0 + (i %% 1500) / 100.0 END,
    CASE WHEN i %% 13 = 0 THEN NULL ELSE i %% 100 END, i %% 32767, substr('ugriz', i %% 5 + 1, 1),
    timestamp '2020-01-01' + i * interval '1 hour', i %% 3 = 0, ARRAY[i, i + 0.5, i * 2.0]::real[]
FROM generate_series(0, %(count)s - 1) AS i
"""


class DachsServer:
    """One server; a context manager that stops it.

    Parameters
    ----------
    postgresql : PostgresqlServer
        That holds its tables.
    directory : Path
        For all its files; made by us.
    """

    def __init__(self, postgresql: PostgresqlServer, directory: Path) -> None:
        self.postgresql = postgresql
        self.directory = directory
        self.port = 0
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Base of all its services."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tap_url(self) -> str:
        return f"{self.url}/tap"

    def start(self, *, stars: int = STARS) -> DachsServer:
        """Make the database and the tables, start the server and wait until it answers."""
        if shutil.which("dachs") is None:
            raise ServerError("GAVO DaCHS is not installed; scripts/system-packages does it")
        user = pwd.getpwnam(_USER)
        self.directory.mkdir(mode=0o755, parents=True)
        self.port = free_ports(1)
        (self.directory / "gavo.rc").write_text(
            _SETTINGS.format(root=self.directory / "root", port=self.port, group=_USER)
        )
        inputs = self.directory / "root" / "inputs" / "cat"
        inputs.mkdir(parents=True)
        (inputs / "q.rd").write_text(_RESOURCE)
        for path in [self.directory, *self.directory.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid)
        with psycopg.connect(self._postgres_url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_DATABASE}")
        # DaCHS writes what it is told into profiles, but no password.
        dsn = f"host=127.0.0.1 port={self.postgresql.port} user={_USER} dbname={_DATABASE}"
        self._dachs("init", "-d", dsn)
        self._dachs("imp", "//obscore")
        self._dachs("imp", "cat/q")
        with psycopg.connect(self._postgres_url(_DATABASE)) as connection:
            connection.execute(_STARS, {"count": stars})
            connection.execute("ANALYZE cat.stars")
        self._process = ServerProcess(
            "dachs",
            self._argv("serve", "debug"),
            self.directory / "dachs.log",
            cwd=self.directory,
            env=self._environment,
        )
        self._process.wait_ready(lambda: http_answer(f"{self.tap_url}/availability")[0] == 200, timeout_s=90)
        return self

    def _postgres_url(self, database: str) -> str:
        return self.postgresql.url(database).replace("+psycopg", "")

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PGPASSWORD": self.postgresql.password,
            "PGUSER": _USER,
            "GAVOSETTINGS": str(self.directory / "gavo.rc"),
            "GAVOCUSTOM": "/nonexistent",
        }

    def _argv(self, *arguments: str) -> list[str]:
        become = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"] if os.geteuid() == 0 else []
        return [*become, "/usr/bin/dachs", *arguments]

    def _dachs(self, *arguments: str) -> None:
        done = subprocess.run(
            self._argv(*arguments),
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"dachs {' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(timeout_s=20)
            self._process = None

    def __enter__(self) -> DachsServer:
        return self.start() if self._process is None else self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
