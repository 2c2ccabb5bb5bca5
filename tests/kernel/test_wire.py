"""Messages between processes, descriptors beside them."""

from __future__ import annotations

import os
import resource

import pytest

from pytest_nsjail.kernel import wire


def test_a_message_arrives_whole_whatever_its_size():
    ours, theirs = wire.pair()
    with ours, theirs:
        for body in ({"text": "\udcff \n é"}, {"text": "x" * 3_000_000}):
            wire.send(ours, body)
            received = wire.receive(theirs)
            assert received is not None
            assert (received.body, received.fds) == (body, [])


def test_descriptors_arrive_close_on_exec():
    ours, theirs = wire.pair()
    read, write = os.pipe()
    with ours, theirs:
        wire.send(ours, {"large": "y" * 200_000}, [write])
        received = wire.receive(theirs)
        assert received is not None
        (copy,) = received.fds
        assert not os.get_inheritable(copy)
        os.write(copy, b"through")
        assert os.read(read, 10) == b"through"
        for fd in (read, write, copy):
            os.close(fd)


def test_a_peer_that_is_gone_is_none():
    ours, theirs = wire.pair()
    wire.send(theirs, {"last": "word"})
    theirs.close()
    with ours:
        said = wire.receive(ours)
        assert said is not None
        assert said.body == {"last": "word"}
        assert wire.receive(ours) is None
        with pytest.raises(BrokenPipeError):
            wire.send(ours, {})


def test_descriptors_without_a_place_are_an_error_and_not_lost_in_silence():
    ours, theirs = wire.pair()
    with ours, theirs:
        wire.send(ours, {}, [ours.fileno()] * 3)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))
        try:
            with pytest.raises(OSError, match="too many files"):
                wire.receive(theirs)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert os.dup(0) == free, "those that had a place were given back"
        os.close(free)
