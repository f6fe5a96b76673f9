"""Equal data is stored once, and goes when the last run goes."""

import os

from tunesmith.core.shared import forget, share


def made(place, **files):
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(text)
    return place


def test_equal_files_are_one(tmp_path):
    store = tmp_path / ".data"
    one = made(tmp_path / "one" / "data", train="x" * 100, dev="y" * 100, small="z")
    two = made(tmp_path / "two" / "data", train="x" * 100, dev="other" * 20, small="z")
    assert share(one.iterdir(), store, least=50) == 0 and share(two.iterdir(), store, least=50) == 100
    assert (one / "train").samefile(two / "train") and (one / "train").read_text() == "x" * 100
    assert not (one / "dev").samefile(two / "dev") and not (one / "small").samefile(two / "small")
    assert share(two.iterdir(), store, least=50) == 0  # a second time there is nothing to do
    assert not os.access(one / "train", os.W_OK) or os.geteuid() == 0
    assert (one / "train").stat().st_mode & 0o222 == 0


def test_replacing_one_leaves_the_other(tmp_path):
    store = tmp_path / ".data"
    one, two = (made(tmp_path / name, train="x" * 100) for name in ("one", "two"))
    for run in (one, two):
        share(run.iterdir(), store, least=50)
    (one / "new").write_text("changed")
    (one / "new").replace(one / "train")
    assert (two / "train").read_text() == "x" * 100


def test_what_nobody_has_is_forgotten(tmp_path):
    store = tmp_path / ".data"
    one, two = (made(tmp_path / name, train="x" * 100) for name in ("one", "two"))
    for run in (one, two):
        share(run.iterdir(), store, least=50)
    (one / "train").unlink()
    assert forget(store) == 0 and (two / "train").exists()
    (two / "train").unlink()
    assert forget(store) == 100 and not store.exists()
    assert forget(store) == 0


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def no_links(*names):
        raise OSError("no links")

    monkeypatch.setattr(os, "link", no_links)
    one = made(tmp_path / "one", train="x" * 100)
    assert share(one.iterdir(), tmp_path / ".data", least=50) == 0 and (one / "train").read_text() == "x" * 100


def test_files_of_somebody_else_stay(tmp_path):
    store = made(tmp_path / ".tunesmith-data", **{"rows.jsonl": "mine"})
    (store / "folder").mkdir()
    assert forget(store) == 0 and (store / "rows.jsonl").read_text() == "mine"


def test_bytes_that_were_changed_are_not_given_on(tmp_path):
    store = tmp_path / ".data"
    one = made(tmp_path / "one", train="x" * 100)
    share(one.iterdir(), store, least=50)
    (one / "train").chmod(0o644)
    (one / "train").write_text("edited " * 20)
    two = made(tmp_path / "two", train="x" * 100)
    share(two.iterdir(), store, least=50)
    assert (two / "train").read_text() == "x" * 100
