"""Run suites that nobody here wrote, plain and with ``--nsjail``, and compare what became of each test."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.suites.run import Outcomes, Place, differences
from tests.suites.suite import SUITES


def main() -> int:
    """0 where nothing differs but what is expected to; else 1."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which; default: all of {', '.join(names)}")
    parser.add_argument("--cache", type=Path, help="keep what was fetched and installed, for the next time; default: a temporary directory")
    parser.add_argument("--plain", action="store_true", help="see only whether each passes without --nsjail")
    options = parser.parse_args()
    if wrong := set(options.names) - set(names):
        parser.error(f"no such suite: {', '.join(sorted(wrong))}; there are: {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="nsjail-suites-") as directory:
        cache = (options.cache or Path(directory)).resolve()
        failed = [suite.name for suite in SUITES if suite.name in (options.names or names) and not _same(Place(suite, cache), options.plain)]
    print(f"different: {', '.join(failed)}" if failed else "no unexpected difference")
    return 1 if failed else 0


def _same(place: Place, plain_only: bool) -> bool:
    suite = place.suite
    place.prepare()
    plain = place.run()
    print(f"{suite.name} {suite.version}: plain {_counted(plain.outcomes)} in {plain.seconds:.1f} s", flush=True)
    if plain.status != 0:
        print(f"{plain.output[-4000:]}\n{suite.name} does not pass here: exit status {plain.status}")
        return False
    if plain_only:
        return True
    jailed = place.run("--nsjail")
    unexpected, expected = differences(suite, plain.outcomes, jailed.outcomes)
    print(f"{suite.name} {suite.version}: jailed {_counted(jailed.outcomes)} in {jailed.seconds:.1f} s", flush=True)
    if not expected and jailed.counts != plain.counts:
        unexpected.append(f"{plain.counts} -> {jailed.counts}")
    if jailed.left:
        unexpected.append(f"left in the directory of temporary files: {', '.join(jailed.left)}")
    for line in expected:
        print(f"  expected: {line}")
    for line in unexpected:
        print(f"  UNEXPECTED: {line}")
    if jailed.status not in (0, 1) or (jailed.status and not unexpected and not expected):
        print(f"{jailed.output[-4000:]}\n  UNEXPECTED: exit status {jailed.status}")
        return False
    for name in suite.expected:
        if not any(line.startswith(name.rstrip("*")) for line in expected):
            print(f"  note: {name} did not differ")
    return not unexpected


def _counted(outcomes: Outcomes) -> str:
    """The tests by what became of their call, or of the last phase they came to."""
    ends = Counter(next((one for one in phases if not one.endswith(" passed")), "call: passed").rpartition(": ")[2] for phases in outcomes.values())
    return f"{len(outcomes)} tests ({', '.join(f'{count} {outcome}' for outcome, count in sorted(ends.items()))})"


if __name__ == "__main__":
    raise SystemExit(main())
