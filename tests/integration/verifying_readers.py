"""Processes that read files through a mount without end, and compare them with their hashes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

READERS = 8
LONGEST_PAUSE_S = 5.0
"""What is promised, on a machine that does nothing else: measured by the long tests."""
STUCK_S = 30.0

_READER = """
import hashlib, json, os, random, signal, sys, time
files, seed = json.loads(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
running = True
def stop(*_):
    global running
    running = False
signal.signal(signal.SIGTERM, stop)
longest, rounds = 0.0, 0
def timed(call, *args, **kwargs):
    global longest
    begun = time.monotonic()
    try:
        return call(*args, **kwargs)
    finally:
        longest = max(longest, time.monotonic() - begun)
held = timed(open, rng.choice(files)[0], "rb", buffering=0)
print("reading", flush=True)
while running:
    path, digest = rng.choice(files)
    if rng.random() < 0.3:
        names = timed(os.listdir, os.path.dirname(path))
        assert os.path.basename(path) in names, names
        assert timed(os.stat, path).st_size
    with timed(open, path, "rb", buffering=0) as file:
        seen = hashlib.sha256()
        while data := timed(file.read, rng.choice((4096, 131072, 1 << 20))):
            seen.update(data)
    assert seen.hexdigest() == digest, path
    assert len(timed(os.pread, held.fileno(), 100, rng.randrange(60000))) == 100
    rounds += 1
print(json.dumps([rounds, longest]), flush=True)
"""


def longest_pause_s(kills: int) -> float:
    """How long one call may take, in seconds."""
    return LONGEST_PAUSE_S if kills >= 100 else STUCK_S


@contextmanager
def readers(files: list[tuple[str, str]]) -> Iterator[list[tuple[int, float]]]:
    """Read and verify until the end; then each one's rounds, and the longest call of it in seconds."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, json.dumps(files), str(seed)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(READERS)
    ]  # fmt: skip
    results: list[tuple[int, float]] = []
    try:
        for reader in running:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
        yield results
        for reader in running:
            reader.terminate()
        for reader in running:
            out, err = reader.communicate(timeout=60)
            assert reader.returncode == 0, err
            rounds, longest = json.loads(out)
            results.append((rounds, longest))
    finally:
        for reader in running:
            reader.kill()
            reader.communicate()
