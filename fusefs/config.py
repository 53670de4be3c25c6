"""How to mount."""

from __future__ import annotations

from dataclasses import dataclass

from pantry.fusefs.mounting import READ_AHEAD_KIB


@dataclass(frozen=True)
class MountConfig:
    """How to mount.

    Attributes
    ----------
    mount_point : str
        An existing directory.
    socket_path : str
        The daemon's socket; empty to look for it.
    allow_other : bool
        Serve all users of the node, each with their own rights.
    repositories : tuple of str
        Show only these; empty for all.
    deadline_s : float
        After so many seconds a request fails.
    collections_ttl_s : float
        For how long collections and permissions are believed.
    patience_s : float
        For how long requests wait for a daemon that has gone.
    hung_s : float
        A serving process that does not answer for so long is replaced.
    read_ahead_kib : int
        How far the kernel reads ahead, in KiB, where we may set it.
    passthrough : bool
        Whether the kernel may read complete files by itself.
    """

    mount_point: str
    socket_path: str = ""
    allow_other: bool = False
    repositories: tuple[str, ...] = ()
    deadline_s: float = 300.0
    collections_ttl_s: float = 2.0
    patience_s: float = 5.0
    hung_s: float = 30.0
    read_ahead_kib: int = READ_AHEAD_KIB
    passthrough: bool = True

    def mount_options(self, name: str) -> list[str]:
        """Return what fusermount3 is told; ``name`` is that of the file system."""
        options = ["ro", "nosuid", "nodev", "default_permissions", f"fsname={name}", f"subtype={name}"]
        return [*options, "allow_other"] if self.allow_other else options

    def words(self) -> list[str]:
        """Return the options that give another process of this program the same configuration."""
        words = [
            f"--socket={self.socket_path}",
            f"--deadline={self.deadline_s}",
            f"--collections-ttl={self.collections_ttl_s}",
            f"--patience={self.patience_s}",
            f"--hung-after={self.hung_s}",
            f"--read-ahead={self.read_ahead_kib}",
            *(f"--repository={name}" for name in self.repositories),
        ]
        if self.allow_other:
            words.append("--allow-other")
        if not self.passthrough:
            words.append("--no-passthrough")
        return [*words, self.mount_point]
