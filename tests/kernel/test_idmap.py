"""Which ids there are, and who is called what."""

from __future__ import annotations

import os

import pytest

from pytest_nsjail.kernel import idmap
from pytest_nsjail.kernel.idmap import IdMap, Range


def test_a_process_has_its_own_ids():
    assert idmap.holds(idmap.own("uid"), os.getuid())
    assert idmap.holds(idmap.own("gid"), os.getgid())


def test_a_range_holds_its_ends_and_no_more():
    ranges = (Range(0, 1000, 1), Range(1, 100000, 10))
    assert [number for number in range(-1, 20) if idmap.holds(ranges, number)] == list(range(11))
    assert [idmap.outside(ranges, number) for number in (0, 1, 10)] == [1000, 100000, 100009]
    assert idmap.identity(ranges) == (Range(0, 0, 1), Range(1, 1, 10))


def test_a_payload_has_the_worlds_ids_where_they_hold_it():
    world = IdMap((Range(0, 1000, 1), Range(1, 100000, 65536)), (Range(0, 1000, 1), Range(1, 100000, 65536)), True)
    assert idmap.payload(world, 500, 500) == IdMap(idmap.identity(world.uids), idmap.identity(world.gids), True)


def test_a_payload_is_alone_where_the_world_is():
    world = IdMap((Range(0, 1000, 1),), (Range(0, 1000, 1),), False)
    assert idmap.payload(world, 500, 44) == IdMap((Range(500, 0, 1),), (Range(44, 0, 1),), False)
    assert idmap.payload(world, 0, 0) == IdMap((Range(0, 0, 1),), (Range(0, 0, 1),), False)


@pytest.mark.parametrize(("lines", "ranges"), [
    ("", ()),
    ("{uid}:100000:65536\n", ((1, 100000, 65536),)),
    ("somebody:1:2\n{uid}:100000:10\n{uid}:200000:20\n", ((1, 100000, 10), (11, 200000, 20))),
    ("# a comment\n\n{uid}:x:10\n{uid}:100000\n{uid}:100000:0\n{uid}:1:2:3\n", ()),
])
def test_subordinate_ids_are_read_as_subuid_says(tmp_path, lines, ranges):
    file = tmp_path / "subuid"
    file.write_text(lines.format(uid=os.getuid()))
    assert idmap._subordinate(str(file), os.getuid()) == tuple(Range(*one) for one in ranges)


def test_no_file_means_no_subordinate_ids(tmp_path):
    assert idmap._subordinate(str(tmp_path / "absent"), os.getuid()) == ()


def test_without_subordinate_ids_there_is_one(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert idmap.rootless() == IdMap((Range(0, os.geteuid(), 1),), (Range(0, os.getegid(), 1),), False)


@pytest.mark.parametrize(("one", "other", "ranges"), [
    (5, 5, [(0, 0, 100), (100, 7000, 10)]),
    (0, 5, [(0, 5, 1), (1, 1, 4), (5, 0, 1), (6, 6, 94), (100, 7000, 10)]),
    (5, 0, [(0, 5, 1), (1, 1, 4), (5, 0, 1), (6, 6, 94), (100, 7000, 10)]),
    (4, 5, [(0, 0, 4), (4, 5, 1), (5, 4, 1), (6, 6, 94), (100, 7000, 10)]),
    (0, 109, [(0, 7009, 1), (1, 1, 99), (100, 7000, 9), (109, 0, 1)]),
])
def test_two_ids_change_places_and_all_others_stay(one, other, ranges):
    before = (Range(0, 0, 100), Range(100, 7000, 10))
    after = idmap.exchanged(before, one, other)
    assert after == tuple(Range(*line) for line in ranges)
    others = set(range(110)) - {one, other}
    assert all(idmap.outside(after, number) == idmap.outside(before, number) for number in others)
