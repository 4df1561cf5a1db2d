"""Notes on files that were found good: true until the file changes in any way."""

import os

import pytest

from converters.stamps import forget_deleted, is_stamped, stamp


@pytest.fixture
def file(tmp_path, cache):
    path = tmp_path / "weights"
    path.write_bytes(b"good")
    stamp(path, "intact")
    return path


def test_a_note_is_of_one_file_and_one_finding(file, tmp_path):
    assert is_stamped(file, "intact")
    assert not is_stamped(file, "finite")
    (tmp_path / "other").write_bytes(b"good")
    assert not is_stamped(tmp_path / "other", "intact")
    assert not is_stamped(tmp_path / "nothing", "intact")


def test_a_file_that_changes_is_looked_at_again(file):
    before = file.stat()
    file.write_bytes(b"evil")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_stamped(file, "intact")


def test_another_file_in_its_place_is_looked_at_again(file, tmp_path):
    (tmp_path / "next").write_bytes(b"evil")
    (tmp_path / "next").replace(file)
    assert not is_stamped(file, "intact")


def test_a_link_is_what_it_leads_to(file, tmp_path):
    (tmp_path / "link").symlink_to(file)
    assert is_stamped(tmp_path / "link", "intact")


def test_notes_go_with_their_files(file, cache):
    forget_deleted()
    assert len(list(cache.rglob("*.intact"))) == 1
    file.unlink()
    forget_deleted()
    assert list(cache.rglob("*.intact")) == []


def test_a_cache_that_cannot_be_written_keeps_no_notes(tmp_path, cache):
    cache.write_text("a file in the place of the folder")
    path = tmp_path / "weights"
    path.write_bytes(b"good")
    stamp(path, "intact")
    assert not is_stamped(path, "intact")
    forget_deleted()
