"""The kernel's side of the mount: the FUSE protocol, without knowing what is mounted (decision 0066)."""
