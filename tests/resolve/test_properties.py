"""What holds of every closure, whatever the tree and the declarations."""

from __future__ import annotations

import posixpath

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.resolve.inside import ClosureView
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.spec.dependency import Directory, Elf, File, Groups, Script, Symlink, Text, Tree, Users

NAMES = st.sampled_from("abc")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
TARGETS = st.one_of(PATHS, st.lists(st.sampled_from(["a", "b", "..", "."]), min_size=1, max_size=3).map("/".join))
FILES = st.dictionaries(PATHS, st.one_of(st.sampled_from(["1", "2"]), TARGETS.map("-> {}".format), st.sampled_from(["#elf", "#script", "#lib"])), max_size=8)


@st.composite
def declared(draw):
    """A tree, and declarations of what is in it: most of them can be satisfied."""
    files = draw(FILES)
    known = st.sampled_from([*files, "/usr/bin/tool", "/bin/tool", "/lib"])
    to = st.none() | PATHS | st.sampled_from(["/lib/a", "/usr/lib/a", "/bin/b"])
    kinds = {"#elf": [Elf, File], "#lib": [Elf, File], "#script": [Script, File]}

    def of(path):
        kind = kinds.get(files.get(path, "#elf" if "tool" in path else ""), [File, Tree, Elf])
        return st.sampled_from(kind).flatmap(lambda made: st.builds(made, st.just(path), to))

    dependency = st.one_of(
        known.flatmap(of), known.flatmap(of), st.builds(Tree, PATHS, to), st.builds(Text, PATHS, st.sampled_from(["1", "2"])),
        st.builds(Symlink, PATHS, TARGETS), st.builds(Directory, PATHS), st.sampled_from([Users(a=1), Users(b=2), Groups(a=1)]),
    )  # fmt: skip
    return files, draw(st.lists(dependency, min_size=1, max_size=4))


def tree(memory, glibc, small_elf, files):
    made = {
        "#elf": small_elf(["libc.so.6", "liba.so"], interp="/lib64/ld-linux-x86-64.so.2", runpath="$ORIGIN"),
        "#lib": small_elf(["libc.so.6"]), "#script": b"#!/bin/sh\n",
    }  # fmt: skip
    view = memory({**glibc, "/usr/lib/liba.so": small_elf()})
    for path, content in files.items():
        # Whoever is a file or a symlink has nothing below it: the first to come stays.
        parents = [path[:end] for end in range(1, len(path)) if path[end] == "/"]
        if path in view.nodes or any(view.nodes.get(parent, (Kind.DIRECTORY,))[0] is not Kind.DIRECTORY for parent in parents):
            continue
        view.nodes.update(memory({path: made.get(content, content)}).nodes | view.nodes)
    return view


def attempt(dependencies, view):
    try:
        closure = resolve(dependencies, view)
    except ResolveError:
        event("contradictory")
        return None
    event("resolved")
    return closure


def facts(closure):
    return {entry.path: (entry.kind, entry.mode, entry.content, entry.target, entry.mtime_ns, frozenset(entry.wanted_by)) for entry in closure}


relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None, database=None)


@relaxed
@given(declared())
def test_the_closure_is_closed(memory, glibc, small_elf, both):
    files, dependencies = both
    view = tree(memory, glibc, small_elf, files)
    closure = attempt(dependencies, view)
    assume(closure is not None)
    before = {"/"}
    written = {str(item.path) for item in dependencies if isinstance(item, Symlink)}
    inside = Walker(ClosureView(closure.entries))
    for entry in closure:
        assert posixpath.dirname(entry.path) in before, "a parent stands before its child"
        assert posixpath.normpath(entry.path) == entry.path
        assert entry.kind in (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)
        assert entry.mode & 0o6000 == 0
        assert entry.wanted_by
        assert posixpath.dirname(entry.path) == "/" or closure.entries[posixpath.dirname(entry.path)].kind is Kind.DIRECTORY
        if entry.kind is Kind.SYMLINK and "on the way to" in entry.wanted_by[0] and not written:
            assert inside.walk(entry.path).stat is not None, "a symlink on a program's way leads somewhere"
        before.add(entry.path)


@relaxed
@given(declared(), st.randoms(use_true_random=False))
def test_the_order_of_declarations_means_nothing(memory, glibc, small_elf, both, random):
    files, dependencies = both
    view = tree(memory, glibc, small_elf, files)
    shuffled = random.sample(dependencies, len(dependencies))
    one, other = attempt(dependencies, view), attempt(shuffled, view)
    assert (one is None) == (other is None)
    if one and other:
        assert facts(one) == facts(other)
        assert list(one.entries) == list(other.entries)


@relaxed
@given(declared())
def test_twice_is_once(memory, glibc, small_elf, both):
    files, dependencies = both
    view = tree(memory, glibc, small_elf, files)
    closure = attempt(dependencies, view)
    assume(closure is not None)
    assert facts(resolve(dependencies, view)) == facts(closure)
    assert facts(resolve([*dependencies, *dependencies], view)) == facts(closure)


@relaxed
@given(FILES, PATHS, st.none() | PATHS)
def test_a_programs_image_is_enough_for_the_same_image(memory, glibc, small_elf, files, path, to):
    """The closure of a program, resolved once more as if it were the host, is itself."""
    view = tree(memory, glibc, small_elf, {path: "#elf", **{name: content for name, content in files.items() if name != path}})
    closure = attempt([Elf(path, to)], view)
    assume(closure is not None)
    again = resolve([Elf(to or path)], ClosureView(closure.entries))
    assert set(again.entries) == set(closure.entries)
