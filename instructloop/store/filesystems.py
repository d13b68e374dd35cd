"""Where SQLite must not be: file systems of other machines, whose locks and shared memory do not hold."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ncpfs|coda|ceph|glusterfs|lustre|gpfs|beegfs\w*|ocfs2|gfs2|davfs|vboxsf|prl_fs"
    r"|fuse\.(sshfs|glusterfs|ceph\S*|s3fs|rclone|gcsfuse|davfs2?|juicefs|seaweedfs|lustre|curlftpfs|smb\S*|nfs\S*)"
)


def check_is_local(folder: Path) -> None:
    """Refuse a folder on a network file system: with a write-ahead log, SQLite loses data there (sqlite.org/wal.html).

    Where the system has no list of mounts (macOS) nothing is refused.
    """
    if not MOUNTS.is_file():
        return
    mount, kind = mount_of(folder.resolve(), MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    if NETWORK.fullmatch(kind):
        raise ValueError(
            f"store in {folder}: {mount} is a network file system ({kind}), on which SQLite loses data; "
            "use a local folder, or PostgreSQL: DATABASE_URL=postgresql://…"
        )


def mount_of(folder: Path, mounts: str) -> tuple[str, str]:
    """Return mount point and type of the file system that a folder is on, from the text of mountinfo (man 5 proc).

    Of several mounts on one point the last one covers the others.
    """
    found, kind = "/", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if folder.is_relative_to(point) and len(point) >= len(found):
            found, kind = point, fields[fields.index("-", 6) + 1]
    return found, kind
