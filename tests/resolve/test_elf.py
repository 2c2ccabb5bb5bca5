"""The reader of ELF files: against pyelftools, against words, and against damage."""

from __future__ import annotations

import io
import os

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nsjail.resolve import elf
from pytest_nsjail.resolve.elf import BadElf, Version, Want, machine, parse

DIRECTORIES = ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib")


def elf_files(most):
    found = {}
    for directory in DIRECTORIES:
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name) if os.path.isdir(directory) else []:
            if entry.is_file() and os.access(entry.path, os.R_OK):
                with open(entry.path, "rb") as file:
                    if file.read(4) == b"\x7fELF":
                        found.setdefault(os.path.realpath(entry.path))
    step = max(1, len(found) // most)
    return list(found)[::step]


def described(path):
    """The same facts, as pyelftools reads them."""
    with open(path, "rb") as file:
        whole = ELFFile(file)
        facts = {
            "bits": whole.elfclass, "little": whole.little_endian, "machine": ENUM_E_MACHINE[whole["e_machine"]], "interpreter": None, "wants": [],
            "soname": None, "rpath": None, "runpath": None, "requires": set(), "defines": None, "dynamic": False,
        }  # fmt: skip
        for segment in whole.iter_segments():
            if segment["p_type"] == "PT_INTERP":
                facts["interpreter"] = segment.get_interp_name()
            if segment["p_type"] == "PT_DYNAMIC":
                facts["dynamic"] = True
                for tag in segment.iter_tags():
                    name = tag.entry.d_tag
                    if name in ("DT_NEEDED", "DT_AUXILIARY", "DT_FILTER"):
                        value = tag.needed if name == "DT_NEEDED" else segment._get_stringtable().get_string(tag.entry.d_val)
                        facts["wants"].append(Want(value, name[3:]))
                    elif name in ("DT_SONAME", "DT_RPATH", "DT_RUNPATH"):
                        facts[name[3:].lower()] = getattr(tag, name[3:].lower())
        for section in whole.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                for need, versions in section.iter_versions():
                    facts["requires"] |= {Version(need.name, version.name, bool(version["vna_flags"] & 2)) for version in versions}
            elif isinstance(section, GNUVerDefSection):
                facts["defines"] = {next(iter(names)).name for _, names in section.iter_versions()}
        return facts


def test_two_readers_agree_on_this_hosts_files():
    files = elf_files(150)
    if not files:
        pytest.skip("no ELF files in the usual directories")
    for path in files:
        with open(path, "rb") as file:
            binary = parse(file)
        expected = described(path)
        got = {name: getattr(binary, name) for name in expected}
        got |= {"wants": list(binary.wants), "requires": set(binary.requires), "defines": None if binary.defines is None else set(binary.defines)}
        assert got == expected, path


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("little", [True, False])
def test_every_layout(small_elf, bits, little):
    data = small_elf(
        ["libb.so", "liba.so"], interp="/ld.so", soname="me.so", rpath="/r", runpath="/run", filters=["f.so"], auxiliaries=["a.so"], nodeflib=True,
        requires={"libb.so": ["B_1", "weak B_2"], "liba.so": ["A_1"]}, defines=["me.so", "ME_1"], bits=bits, little=little, machine=8, osabi=3,
    )  # fmt: skip
    binary = parse(io.BytesIO(data))
    assert binary == elf.Binary(
        bits, little, 8, 3, 3, "/ld.so", True, (Want("libb.so", "NEEDED"), Want("liba.so", "NEEDED"), Want("f.so", "FILTER"), Want("a.so", "AUXILIARY")),
        "me.so", "/r", "/run", True, (Version("libb.so", "B_1", False), Version("libb.so", "B_2", True), Version("liba.so", "A_1", False)),
        frozenset({"me.so", "ME_1"}),
    )  # fmt: skip


@pytest.mark.parametrize(("data", "said"), [(b"", "empty"), (b"#!/bin/sh", "no ELF"), (b"\x7fELF", "cut short"), (b"\x7fELF" + bytes(60), "damaged")])
def test_what_is_none(data, said):
    with pytest.raises(BadElf, match=said):
        parse(io.BytesIO(data))


@settings(database=None, deadline=None)
@given(st.data())
def test_damage_is_an_error_and_never_a_surprise(small_elf, data):
    whole = bytearray(small_elf(["a", "b"], interp="/ld", requires={"a": ["V"]}, defines=["D"]))
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))
    cut = data.draw(st.integers(0, len(whole)))
    for damaged in (whole, whole[:cut]):
        try:
            parse(io.BytesIO(bytes(damaged)))
        except BadElf:
            pass


def test_debug_information_is_no_program(small_elf):
    data = bytearray(small_elf(["a"]))
    # objcopy --only-keep-debug leaves program headers that point at what is no longer there: the segment's file size is 0.
    data[64 + 32 : 64 + 40] = bytes(8)
    with pytest.raises(BadElf, match="debug information"):
        parse(io.BytesIO(bytes(data)))


def test_names_of_machines(small_elf):
    assert machine(parse(io.BytesIO(small_elf()))) == "X86-64, 64-bit"
    assert machine(parse(io.BytesIO(small_elf(machine=22, little=False)))) == "IBM S/390, 64-bit, big-endian"
    assert machine(parse(io.BytesIO(small_elf(machine=60000)))) == "machine 60000, 64-bit"


def test_a_changed_file_is_read_again(host, tmp_path, small_elf):
    path = tmp_path / "lib.so"
    for name in ("a", "longer"):
        path.write_bytes(small_elf([name]))
        real = os.path.realpath(path)
        assert elf.read(real, host.lstat(real), host).wants == (Want(name, "NEEDED"),)
