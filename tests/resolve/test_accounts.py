from __future__ import annotations

import pytest

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.resolve.accounts import Accounts, lookup_user, merge
from pytest_nsjail.spec.dependency import Groups, Users

PASSWD = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\nnode:x:500:600:Node:/home/node:/bin/sh\n"
GROUP = "root:x:0:\nnode:x:600:\naudio:x:29:node,root\nvideo:x:44:node\nodd:x:?:node\n"


def test_merge():
    assert merge([Users(b=2, a=1), Groups(wheel=0), Users(a=1)]) == Accounts(
        "a:x:1:1::/:/bin/sh\nb:x:2:2::/:/bin/sh\n", "wheel:x:0:\na:x:1:\nb:x:2:\n"
    )
    assert merge([]) == Accounts("", "")
    assert merge([Users(a=1), Users(b=1)]).passwd.count("\n") == 2  # two names of one id are lawful


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("node", (500, 600, (29, 44))), ("500", (500, 600, (29, 44))), ("0", (0, 0, (29,))), ("1234", (1234, 1234, ())),
        ("node:audio", (500, 29, ())), ("500:29", (500, 29, ())), ("7:8", (7, 8, ())), ("node:77", (500, 77, ())),
    ],
)  # fmt: skip
def test_lookup(user, expected):
    assert lookup_user(PASSWD, GROUP, user) == expected


def test_lookup_without_files():
    assert lookup_user("", "", "0") == (0, 0, ())
    assert lookup_user("", "", "root") == (0, 0, ())
    assert lookup_user("", "", "7:root") == (7, 0, ())


def test_a_root_who_is_somebody_else():
    assert lookup_user("root:x:0:7:root:/root:/bin/sh\n", "wheel:x:10:root\n", "root") == (0, 7, (10,))
    assert lookup_user("toor:x:0:0::/:\n", "wheel:x:10:root\n", "root") == (0, 0, (10,))


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("nobody", "user='nobody': the image has no user 'nobody'; its /etc/passwd has root, node. Declare Users(nobody=500), or write a number."),
        ("node:wheel", "user='node:wheel': the image has no group 'wheel'; its /etc/group has root, node, audio, video. Declare Groups(wheel=500)"),
    ],
)  # fmt: skip
def test_unknown_names(user, said):
    with pytest.raises(ResolveError) as caught:
        lookup_user(PASSWD, GROUP, user)
    assert said in str(caught.value)


def test_unknown_names_without_files():
    with pytest.raises(ResolveError, match="it has no /etc/passwd that names one"):
        lookup_user("", "", "node")
