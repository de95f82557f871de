"""Which folders a journal may live in."""

from __future__ import annotations

from pathlib import Path

import pytest

from drengine.errors import JournalError
from drengine.journal import places

MOUNTS = """\
/dev/vda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
tmpfs /run tmpfs rw 0 0
//server/share /mnt/share cifs rw 0 0
server:/export /mnt/with\\040space nfs4 rw 0 0
/dev/vdb1 /mnt/share/local xfs rw 0 0
user@host:/ /home/ada/remote fuse.sshfs rw 0 0
tmpfs /over tmpfs rw 0 0
host /over 9p rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "fstype"),
    [
        ("/", "ext4"),
        ("/home/ada", "ext4"),
        ("/home/ada/remote", "fuse.sshfs"),
        ("/home/ada/remotely", "ext4"),
        ("/mnt/share/x/y", "cifs"),
        ("/mnt/share/local/x", "xfs"),
        ("/mnt/with space/x", "nfs4"),
        ("/over/x", "9p"),
    ],
)
def test_the_deepest_and_latest_mount_decides(path, fstype):
    assert places.fstype_of(Path(path), MOUNTS) == fstype


def test_a_path_that_no_mount_covers_has_no_type():
    assert places.fstype_of(Path("/x"), "") == ""


@pytest.mark.parametrize(
    "fstype",
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "afs",
        "lustre",
        "glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.blobfuse2",
        "fuse.glusterfs",
        "davfs",
        "vboxsf",
    ],
)
def test_network_file_systems_are_known(fstype):
    assert places.is_network(fstype)


@pytest.mark.parametrize(
    "fstype",
    [
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "tmpfs",
        "overlay",
        "apfs",
        "f2fs",
        "fuseblk",
        "fuse.fuse-overlayfs",
        "fuse.mergerfs",
        "virtiofs",
        "",
    ],
)
def test_local_file_systems_are_not_taken_for_network_ones(fstype):
    assert not places.is_network(fstype)


def test_a_home_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(places, "MOUNTS", mounts)
    with pytest.raises(JournalError, match=r"lies on a network file system \(nfs4\)") as error:
        places.prepare_home(tmp_path / "home")
    assert "DRENGINE_HOME" in error.value.hint


def test_a_home_behind_a_link_is_judged_by_where_it_really_is(tmp_path, monkeypatch):
    remote = tmp_path / "remote"
    remote.mkdir()
    (tmp_path / "link").symlink_to(remote)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {remote.resolve()} cifs rw 0 0\n")
    monkeypatch.setattr(places, "MOUNTS", mounts)
    with pytest.raises(JournalError, match="cifs"):
        places.prepare_home(tmp_path / "link" / "home")


def test_where_mounts_cannot_be_read_the_folder_is_accepted(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "absent")
    home = places.prepare_home(tmp_path / "home")
    assert home == (tmp_path / "home").resolve()
