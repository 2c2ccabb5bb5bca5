"""pytest's own fixtures."""

import logging
import os
import sys

import pytest

import helper


def test_capsys(capsys):
    helper.speak("capsys")
    captured = capsys.readouterr()
    assert captured.out == "capsys: out\n"
    assert captured.err == "capsys: err\n"


def test_capsys_left(capsys):
    print("left unread")
    raise AssertionError("unread")


def test_capfd(capfd):
    helper.speak("capfd")
    captured = capfd.readouterr()
    assert captured.out == "capfd: out\ncapfd: fd 1\n"


def test_capfd_failing(capfd):
    print("read")
    assert capfd.readouterr().out == "other"


def test_capfdbinary(capfdbinary):
    os.write(1, b"\xff\x00")
    assert capfdbinary.readouterr().out == b"\xff\x00"


def test_capsysbinary(capsysbinary):
    print("text")
    assert capsysbinary.readouterr().out == b"text\n"


def test_capteesys(capteesys):
    print("on both sides")
    assert capteesys.readouterr().out == "on both sides\n"


def test_both(capsys, capfd):
    pass


def test_caplog(caplog):
    with caplog.at_level(logging.DEBUG, "own"):
        logging.getLogger("own").debug("seen")
    assert caplog.record_tuples == [("own", logging.DEBUG, "seen")]
    caplog.clear()
    logging.getLogger("own").error("left")
    assert caplog.text == "other"


def test_recwarn(recwarn):
    helper.deprecated()
    assert recwarn.pop(DeprecationWarning).lineno == 1


def test_monkeypatch(monkeypatch, tmp_path):
    monkeypatch.setenv("OWN", "1")
    monkeypatch.setattr(helper, "deprecated", lambda: 17)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert helper.deprecated() == 17
    assert os.getcwd() == str(tmp_path)


def test_monkeypatch_is_undone():
    assert "OWN" not in os.environ
    with pytest.warns(DeprecationWarning):
        assert helper.deprecated() == 1


def test_tmp_path(tmp_path):
    (tmp_path / "kept").write_text("artifact")
    os.chmod(tmp_path / "kept", 0o640)
    os.symlink("kept", tmp_path / "link")


def test_tmp_path_failing(tmp_path):
    (tmp_path / "of a failure").write_bytes(b"\x00" * 1000)
    assert not list(tmp_path.iterdir())


def test_tmp_path_factory(tmp_path_factory):
    (tmp_path_factory.mktemp("made") / "file").write_text("text")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("module")
    yield directory
    # A test wrote it, wherever that ran.
    helper.note(f"in the module's directory: {sorted(os.listdir(directory))}")


def test_shared_directory(directory):
    (directory / "one").write_text("one")


def test_shared_directory_again(directory):
    assert (directory / "one").read_text() == "one"
    (directory / "two").write_text("two")


def test_tmpdir(tmpdir):
    tmpdir.join("file").write("text")
    assert tmpdir.check(dir=0)


def test_request(request):
    assert request.node.name == "test_request"
    assert request.config.getoption("verbose") is not None
    assert request.function is not None
    assert request.session.testscollected > 1
    assert "request" in request.fixturenames


def test_pytestconfig(pytestconfig):
    assert pytestconfig.rootpath.is_dir()


def test_doctest_namespace(doctest_namespace):
    pass


def test_pytest_current_test():
    assert os.environ["PYTEST_CURRENT_TEST"].endswith("test_pytest_current_test (setup)")


def test_argv():
    program = sys.argv[0]
    assert program.endswith("other.py")


def test_working_directory(pytestconfig):
    assert os.getcwd() == str(pytestconfig.invocation_params.dir)


def test_environment_is_changed():
    os.environ["LEFT_BEHIND"] = "1"
    raise AssertionError(os.environ["LEFT_BEHIND"])


def test_files_of_the_project(pytestconfig):
    assert (pytestconfig.rootpath / "helper.py").is_file()


def test_raises_group():
    with pytest.raises(ValueError, match="right") as caught:
        raise ValueError("right")
    assert caught.value.args == ("wrong",)
