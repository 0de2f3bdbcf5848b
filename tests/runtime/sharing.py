"""What processes share: segments that they map or hold, by device and inode, as the kernel says."""

import os
from pathlib import Path

NAMES = ("/memfd:", "/dev/shm/", "/SYSV", "/dev/zero")  # of what may be shared, whatever its rights


def segments(pid):
    """(device, inode) of each shared mapping and each memory file of process ``pid``; empty where it is gone."""
    found = set()
    place = Path(f"/proc/{pid}")
    try:
        for line in (place / "maps").read_text().splitlines():
            _range, rights, _offset, device, inode, *path = line.split(maxsplit=5)
            name = path[0] if path else ""
            if int(inode) and (
                {"s", "w"} <= set(rights) or name.startswith(("/memfd:", "/dev/shm/", "/SYSV", "/dev/zero"))
            ):
                major, minor = (int(part, 16) for part in device.split(":"))
                found.add((os.makedev(major, minor), int(inode)))
        for link in (place / "fd").iterdir():
            if str(link.readlink()).startswith("/memfd:"):
                about = link.stat()
                found.add((about.st_dev, about.st_ino))
    except FileNotFoundError:
        return set()
    return found


def held_by(pids):
    """All segments of several processes."""
    return set().union(*(segments(pid) for pid in pids))


def refuse_sharing(nodes):
    """``nodes``: name → pids. AssertionError where two of them map or hold one segment, or one has none at all."""
    held = {name: held_by(pids) for name, pids in nodes.items()}
    for name, mine in held.items():
        for other, theirs in held.items():
            assert name == other or not mine & theirs, f"{name} and {other} share {sorted(mine & theirs)}"
    return held
