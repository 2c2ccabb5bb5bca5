"""Bad input: each error comes before anything is made, and names the declaration, the value and what to write instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nsjail.errors import NsjailError, SpecError
from pytest_nsjail.spec import check
from pytest_nsjail.spec.dependency import Copy, Directory, Elf, File, Groups, Script, Symlink, Text, Tree, Users
from pytest_nsjail.spec.jail import ImageSpec, JailSpec
from pytest_nsjail.spec.limits import Limits
from pytest_nsjail.spec.mount import Bind, Device, Tmpfs


def run(argv: object = ("/bin/true",), **options: object) -> JailSpec:
    return JailSpec.declared(argv, **options)  # type: ignore[arg-type]


def image(*dependencies: object, **options: object) -> ImageSpec:
    return ImageSpec.declared(*dependencies, **options)  # type: ignore[arg-type]


# What is written, the value that the error must show, and a word of what to write instead.
BAD: list[tuple[Callable[[], object], str, str]] = [
    # Sources
    (lambda: Elf("bin/true"), "Elf('bin/true'): the source 'bin/true' is not absolute", "/.../bin/true"),
    (lambda: Elf(""), "Elf(''): the source is empty", "Write it out"),
    (lambda: Elf("/bin/\0true"), "NUL byte", "leave it out"),
    (lambda: Elf(b"/bin/true"), "bytes b'/bin/true'", "Write a string"),
    (lambda: Elf(None), "NoneType None", "Write a string"),
    (lambda: Elf(7), "int 7", "Write a string"),
    (lambda: Script("~/run"), "the source '~/run' is not absolute", "Write it from the root"),
    (lambda: File("./x"), "File('./x')", "Write it from the root"),
    (lambda: Tree("."), "Tree('.')", "Write it from the root"),
    # Destinations
    (lambda: Elf("/bin/true", "bin/true"), "the destination 'bin/true' is not absolute", "'/bin/true'"),
    (lambda: Elf("/bin/true", "/../bin/true"), "the destination '/../bin/true' holds '..'", "without the detour"),
    (lambda: Elf("/bin/true", "/usr/../../bin/true"), "holds '..'", "without the detour"),
    (lambda: File("/etc/hosts", "/etc/.."), "holds '..'", "without the detour"),
    (lambda: Elf("/bin/true", "/"), "the destination is the root itself", "below it"),
    (lambda: Elf("/bin/true", "//."), "the destination is the root itself", "below it"),
    (lambda: Elf("/bin/true", ""), "the destination is empty", "Write it out"),
    (lambda: Tree("/etc", "/a\0b"), "NUL byte", "leave it out"),
    # Texts, symlinks, directories
    (lambda: Text("x", ""), "the path 'x' is not absolute", "'/x'"),
    (lambda: Text("/x", 7), "the content is int", "string or bytes"),
    (lambda: Text("/x", None), "the content is NoneType", "string or bytes"),
    (lambda: Text("/x", "", mode=0o10000), "mode 4096", "0o644"),
    (lambda: Text("/x", "", mode="644"), "mode '644'", "0o644"),
    (lambda: Text("/x", "", mode=-1), "mode -1", "0o644"),
    (lambda: File("/x", mode=True), "mode True", "0o644"),
    (lambda: Text("/x", "\ud800"), "the content '\\ud800' holds half a character", "whole characters"),
    (lambda: Symlink("/x", ""), "the target is empty", "Write it out"),
    (lambda: Symlink("x", "y"), "the path 'x' is not absolute", "'/x'"),
    (lambda: Directory("/"), "the path is the root itself", "below it"),
    (lambda: Directory("/a/../b"), "holds '..'", "without the detour"),
    (lambda: Directory("/a", mode=1.5), "mode 1.5", "0o644"),
    (lambda: Tree("/etc", exclude="*.pyc"), "exclude is the string '*.pyc'", "exclude=('*.pyc',)"),
    (lambda: Tree("/etc", exclude=("",)), "a pattern of exclude is empty", "Write it out"),
    (lambda: Tree("/etc", exclude=(7,)), "a pattern of exclude is int 7", "Write a string"),
    (lambda: Copy("stage", "/x"), "'stage' is no stage", "image.stage"),
    # Accounts
    (lambda: Users(), "it names nobody", "Users(nodeuser=500)"),
    (lambda: Groups(), "it names nobody", "Groups(nodeuser=500)"),
    (lambda: Users(x=-1), "x=-1 is no id", "x=500"),
    (lambda: Users(x=2**32 - 1), "x=4294967295 is no id", "x=500"),
    (lambda: Users(x="500"), "x='500' is no id", "x=500"),
    (lambda: Users(x=True), "x=True is no id", "x=500"),
    (lambda: Users(**{"a:b": 1}), "'a:b' cannot be a name here", "'nodeuser'"),
    (lambda: Users(**{"a\nb": 1}), "cannot be a name here", "'nodeuser'"),
    (lambda: Users(**{"-a": 1}), "'-a' cannot be", "'nodeuser'"),
    (lambda: Users(**{"12": 1}), "'12' cannot be", "'nodeuser'"),
    (lambda: Users(**{"": 1}), "a name here is empty", "Write it out"),
    # Mounts
    (lambda: Bind("etc", "/etc"), "Bind('etc', '/etc'): the source 'etc' is not absolute", "Write it from the root"),
    (lambda: Bind("/etc", "etc"), "the target 'etc' is not absolute", "'/etc'"),
    (lambda: Bind("/etc", "/"), "the target is the root itself", "below it"),
    (lambda: Bind("/etc", "/foo/../../escape"), "holds '..'", "without the detour"),
    (lambda: Bind("/etc", "/x", writable="yes"), "writable is 'yes'", "True or False"),
    (lambda: Tmpfs("/x", size=0), "size=0", "size='256M'"),
    (lambda: Tmpfs("/x", size=-1), "size=-1", "size='256M'"),
    (lambda: Tmpfs("/x", size=""), "size='' is not a size", "K, M, G"),
    (lambda: Tmpfs("/x", size="1T"), "size='1T' is not a size", "K, M, G"),
    (lambda: Tmpfs("/x", size="50%"), "size='50%' is not a size", "K, M, G"),
    (lambda: Tmpfs("/x", size="1M,mode=777"), "is not a size", "K, M, G"),
    (lambda: Tmpfs("/x", size=2**64), "size=18446744073709551616 is not above 0 and below 2**63", "size='256M'"),
    (lambda: Tmpfs("x"), "the target 'x' is not absolute", "'/x'"),
    (lambda: Device("/etc/passwd"), "'/etc/passwd' is not below /dev", "/dev/fuse"),
    (lambda: Device("/dev/../etc/passwd"), "holds '..'", "without the detour"),
    (lambda: Device("/dev"), "'/dev' is not below /dev", "/dev/fuse"),
    (lambda: Device(7), "int 7", "Write a string"),
    (lambda: Bind("/etc", "/\ud800"), "half a character, U+D800", "whole characters"),
    # Limits
    (lambda: Limits(memory=0), "memory=0", "memory='256M'"),
    (lambda: Limits(memory=-5), "memory=-5", "memory='256M'"),
    (lambda: Limits(memory="lots"), "memory='lots' is not a size", "memory='256M'"),
    (lambda: Limits(memory=1.5), "memory=1.5 is not a size", "memory='256M'"),
    (lambda: Limits(memory=True), "memory=True is not a size", "memory='256M'"),
    (lambda: Limits(memory="9999999999G"), "2**63", "memory='256M'"),
    (lambda: Limits(memory="٣M"), "is not a size", "memory='256M'"),
    (lambda: Limits(file_size="0"), "file_size='0'", "file_size='256M'"),
    (lambda: Limits(processes=0), "processes=0", "processes=64"),
    (lambda: Limits(processes="4"), "processes='4'", "processes=64"),
    (lambda: Limits(processes=2.0), "processes=2.0", "processes=64"),
    (lambda: Limits(cpu_seconds=-1), "cpu_seconds=-1", "cpu_seconds=64"),
    (lambda: Limits(cpu_seconds=0.5), "cpu_seconds=0.5", "cpu_seconds=64"),
    (lambda: Limits(open_files=2**40), "open_files=1099511627776", "open_files=64"),
    # Images
    (lambda: image("/bin/true"), "'/bin/true' is no dependency", "Elf(...)"),
    (lambda: image(Elf), "is no dependency", "Elf(...)"),
    (lambda: image(Bind("/etc", "/etc")), "Bind('/etc', '/etc') is no dependency", "Elf(...)"),
    (lambda: image([Elf("/bin/true")]), "is no dependency", "Elf(...)"),
    (lambda: image(env=["A=b"]), "env is ['A=b']", "env={'PORT': '3000'}"),
    (lambda: image(env={"A": 1}), "env sets A to 1", "'A': '3000'"),
    (lambda: image(env={"A": None}), "env sets A to None", "'A': '3000'"),
    (lambda: image(env={"A=B": "x"}), "env holds the name 'A=B'", "without '='"),
    (lambda: image(env={"": "x"}), "env holds the name ''", "without '='"),
    (lambda: image(env={"A\0": "x"}), "env holds the name", "NUL"),
    (lambda: image(env={"A": "x\0y"}), "env sets A to 'x\\x00y'", "NUL"),
    (lambda: image(env={7: "x"}), "env holds the name 7", "without '='"),
    (lambda: image(workdir="app"), "workdir 'app' is not absolute", "'/app'"),
    (lambda: image(workdir="/app/../.."), "holds '..'", "without the detour"),
    (lambda: image(entrypoint="node"), "argv is 'node'", "list of strings"),
    (lambda: image(cmd=[1]), "argv holds 1, a int", "as a string"),
    (lambda: image(name=""), "the name is empty", "Write it out"),
    (lambda: image(user=""), "the user is empty", "Write it out"),
    # Runs
    (lambda: run([]), "there is no program to run", "['/usr/bin/git', '--version']"),
    (lambda: run([""]), "there is no program to run", "['/usr/bin/git', '--version']"),
    (lambda: run("/bin/true"), "argv is '/bin/true'", "list of strings"),
    (lambda: run(b"/bin/true"), "argv is b'/bin/true'", "list of strings"),
    (lambda: run(None), "argv is None", "list of strings"),
    (lambda: run(["/bin/true", 7]), "argv holds 7, a int", "as a string"),
    (lambda: run(["/bin/true", None]), "argv holds None, a NoneType", "as a string"),
    (lambda: run(["/bin/true", b"x"]), "argv holds b'x', a bytes", "as a string"),
    (lambda: run(["/bin/true", "a\0b"]), "with a NUL byte", "leave it out"),
    (lambda: run(["git"]), "'git' is not absolute", "'/usr/bin/git'"),
    (lambda: run(mounts=["/etc:/etc"]), "mounts holds '/etc:/etc'", "Bind(source, target)"),
    (lambda: run(mounts=[Elf("/bin/true")]), "mounts holds Elf('/bin/true')", "Bind(source, target)"),
    (lambda: run(["/bin/true", "\ud800"]), "half a character", "whole characters"),
    (lambda: run(env={"A": "\ud800"}), "A of env '\\ud800'", "whole characters"),
    (lambda: run(stdin="\ud800"), "stdin '\\ud800'", "whole characters"),
    (lambda: run(mounts=None), "mounts is None", "mounts=[Bind("),
    (lambda: run(mounts="/etc:/etc"), "mounts is '/etc:/etc'", "mounts=[Bind("),
    (lambda: run(mounts=Bind("/etc", "/etc")), "mounts is Bind('/etc', '/etc')", "mounts=[Bind("),
    (lambda: run(devices="/dev/fuse"), "devices is '/dev/fuse'", "devices=['/dev/fuse']"),
    (lambda: run(devices=None), "devices is None", "devices=['/dev/fuse']"),
    (lambda: run(stdin=7), "stdin is int", "string or bytes"),
    (lambda: run(stdin=["x"]), "stdin is list", "string or bytes"),
    (lambda: run(limits={"memory": 1}), "limits is {'memory': 1}", "Limits(memory='256M')"),
    (lambda: run(timeout=0), "timeout=0", "timeout=10"),
    (lambda: run(timeout=-1), "timeout=-1", "timeout=10"),
    (lambda: run(timeout="10"), "timeout='10'", "timeout=10"),
    (lambda: run(timeout=float("nan")), "timeout=nan", "timeout=10"),
    (lambda: run(timeout=float("inf")), "timeout=inf", "timeout=10"),
    (lambda: run(timeout=True), "timeout=True", "timeout=10"),
    (lambda: run(network="bridge"), "network='bridge' is no network", "network='host'"),
    (lambda: run(network=None), "network=None is no network", "network='host'"),
    (lambda: run(read_only="no"), "read_only is 'no'", "True or False"),
    (lambda: run(user=-1), "user=-1", "user=500"),
    (lambda: run(user=2**32), "user=4294967296", "user=500"),
    (lambda: run(user="99999999999"), "user=99999999999", "user=500"),
    (lambda: run(user="a:b:c"), "'b:c' cannot be", "'nodeuser'"),
    (lambda: run(user=":root"), "is empty", "Write it out"),
    (lambda: run(user="root:"), "is empty", "Write it out"),
    (lambda: run(user="²"), "'²' cannot be", "'nodeuser'"),
    (lambda: run(user=1.5), "the user is float 1.5", "Write a string"),
    (lambda: run(user=True), "user=True", "user=500"),
    (lambda: run(hostname=""), "the hostname is empty", "Write it out"),
    (lambda: run(hostname="a" * 65), "hostname", "up to 64"),
    (lambda: run(hostname="a b"), "hostname 'a b' is none", "up to 64"),
    (lambda: run(hostname="-a"), "hostname '-a' is none", "up to 64"),
    (lambda: run(hostname="a\n"), "is none", "up to 64"),
    (lambda: run(devices=["fuse"]), "Device('fuse')", "/fuse"),
    (lambda: run(devices=["/etc/passwd"]), "is not below /dev", "/dev/fuse"),
    (lambda: run(workdir="x"), "workdir 'x' is not absolute", "'/x'"),
]


@pytest.mark.parametrize(("write", "shown", "instead"), BAD, ids=range(len(BAD)))
def test_bad_input_is_an_error_that_says_what_to_write(write, shown, instead):
    with pytest.raises(SpecError) as raised:
        write()
    said = str(raised.value)
    assert shown in said
    assert instead in raised.value.instead
    assert said == f"{raised.value.declaration}: {raised.value.problem}. {raised.value.instead}"
    assert raised.value.instead.endswith(".")
    assert raised.value.declaration


def test_a_spec_error_is_caught_as_what_anybody_expects():
    assert issubclass(SpecError, ValueError)
    assert issubclass(SpecError, NsjailError)


def test_a_run_names_its_argv_in_the_error():
    with pytest.raises(SpecError, match=r"^nsjail_run\(\['/bin/true', 'x'\]\): network"):
        run(["/bin/true", "x"], network="x")


def test_an_unknown_option_is_an_error_that_names_those_there_are():
    with pytest.raises(SpecError, match=r"no option 'colour'\. It takes source, to"):
        Elf("/bin/true", colour="red")  # type: ignore[call-arg]
    with pytest.raises((SpecError, TypeError), match="memroy"):
        Limits(memroy=1)  # type: ignore[call-arg]


# Good input


@pytest.mark.parametrize(("written", "meant"), [
    ("/a//b/./c/", "/a/b/c"), ("//a", "/a"), ("///a", "/a"), ("/a/.", "/a"), ("/.a", "/.a"), ("/...", "/..."), ("/a b\n", "/a b\n"), ("/\udcff", "/\udcff"),
])
def test_paths_are_normal_when_they_are_read(written, meant):
    assert Directory(written).path == meant
    assert Bind("/etc", written).target == meant
    assert Elf(written).source == meant


def test_a_source_keeps_its_detour():
    # Behind a symlink ".." is what the file system says, not what the letters say.
    assert Elf("/a/../b").source == "/a/../b"


def test_path_objects_are_paths(tmp_path: Path):
    assert Bind(tmp_path, tmp_path).source == str(tmp_path)
    assert Elf(tmp_path / "x", Path("/y")).to == "/y"
    assert run([Path("/bin/true"), tmp_path]).argv == ("/bin/true", str(tmp_path))


@pytest.mark.parametrize(("written", "bytes_"), [("1", 1), ("4K", 4096), ("256M", 256 << 20), ("2G", 2 << 30), (4096, 4096)])
def test_sizes_are_bytes(written, bytes_):
    assert Limits(memory=written).memory == bytes_
    assert Tmpfs("/x", size=written).size == bytes_


def test_an_empty_argument_is_an_argument():
    assert run(["/bin/echo", ""]).argv == ("/bin/echo", "")


@pytest.mark.parametrize("user", [0, 500, "root", "500", "node:media", "500:44", "_apt", "a.b", "müller", 2**32 - 2])
def test_these_are_users(user):
    assert run(user=user).user == str(user)


@pytest.mark.parametrize("hostname", ["a", "db.test", "a-b", "9", "a" * 64])
def test_these_are_hostnames(hostname):
    assert run(hostname=hostname).hostname == hostname


@pytest.mark.parametrize("value", [
    Elf("/bin/true"), Elf("/bin/true", "/x"), Script("/x"), File("/x", mode=0o600), Tree("/x", exclude=("a", "b")), Text("/x", "y"), Symlink("/x", "y"),
    Directory("/x", mode=0o700), Users(a=1), Groups(b=2), Bind("/x", "/y", writable=True), Tmpfs("/x", size=4096), Device("/dev/fuse"), Limits(memory=1),
], ids=repr)
def test_a_declaration_is_a_frozen_value_that_says_what_was_written(value):
    again = eval(repr(value))
    assert (again, hash(again)) == (value, hash(value))
    name = next(iter(dataclasses.fields(value))).name if dataclasses.is_dataclass(value) else "ids"
    with pytest.raises(AttributeError):
        setattr(value, name, "other")


def test_values_that_differ_are_not_equal():
    assert len({Users(a=1), Users(a=2), Groups(a=1), Elf("/a"), Elf("/a", "/b"), Script("/a"), File("/a")}) == 7


def test_what_a_run_gives_stands_over_what_its_image_gives():
    spec = run(["x"], image=image(Elf("/bin/true"), env={"A": "1", "B": "2"}, entrypoint=["/bin/e"], cmd=["c"]), env={"B": "3", "C": "4"})
    assert spec.environment() == {"A": "1", "B": "3", "C": "4"}
    assert spec.command() == ("/bin/e", "x")


def test_without_arguments_the_images_cmd_runs():
    assert run([], image=image(entrypoint=["/bin/e"], cmd=["c"])).command() == ("/bin/e", "c")
    assert run([], image=image(cmd=["c"])).command() == ("c",)
    with pytest.raises(SpecError, match="no program"):
        run([], image=image(Elf("/bin/true")))


def test_who_enters_has_all_but_the_entrypoint():
    spec = run(["x"], image=image(env={"A": "1"}, entrypoint=["/bin/e"], cmd=["c"]), env={"B": "2"}, user=5, workdir="/w", timeout=3, stdin="in")
    entering = spec.entering(["/bin/y"], env={"B": "3"})
    assert entering.command() == ("/bin/y",)
    assert entering.environment() == {"A": "1", "B": "3"}
    assert (entering.user, entering.workdir, entering.timeout, entering.stdin) == ("5", "/w", None, None)
    with pytest.raises(SpecError, match="no program"):
        spec.entering([])


# Anything at all


# Nothing is kept: the checkout may be somebody else's.
forgetful = settings(database=None, deadline=None)
ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text(), max_size=2))


@forgetful
@given(ANYTHING, ANYTHING)
def test_a_mount_of_anything_is_a_value_or_a_spec_error(source, target):
    try:
        bind = Bind(source, target)  # type: ignore[arg-type]
    except SpecError:
        return
    assert str(bind.source).startswith("/")
    assert str(bind.target).startswith("/")
    assert ".." not in str(bind.target).split("/")
    assert Bind(bind.source, bind.target) == bind


@forgetful
@given(st.one_of(st.text(), st.text(alphabet="/.a\0")))
def test_a_path_that_is_taken_is_absolute_normal_and_below_the_root(text):
    try:
        path = check.inside("Directory()", "the path", text)
    except SpecError:
        return
    assert path.startswith("/")
    assert path != "/"
    assert not path.startswith("//")
    assert not {"", ".", ".."} & set(path[1:].split("/"))
    assert check.inside("Directory()", "the path", path) == path


@pytest.mark.parametrize("option", ["env", "workdir", "user", "stdin", "limits", "timeout", "network", "hostname", "read_only", "mounts", "devices"])
@forgetful
@given(value=ANYTHING)
def test_an_option_of_anything_is_taken_or_a_spec_error(option, value):
    try:
        run(**{option: value})
    except SpecError:
        return
    assert run(**{option: value}) == run(**{option: value}), "what is taken is a value"
