"""Gives every switched mutant to the tests that pass its switch, the quick ones first.

    judge.py TESTS STATES.json VERDICTS.jsonl

TESTS is the library's test program, built from a tree that `switch.py` has rewritten. Each test is run once alone, which
tells what it passes. VERDICTS.jsonl gets a line for each mutant; those that it has already are not judged again. Prints
a table by file, and every mutant that lives with the reason that `lives.tsv` gives; ends with 1 if one is not there.
"""

import concurrent.futures
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS, STATES, VERDICTS = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
MEMORY_MAX = 6 << 30
# Tests are run in groups, the quick ones first: most mutants die at once.
GROUPS = (20, 60, 10_000)
# A mutant that hangs is given this much longer than its tests take.
PATIENCE_S, PATIENCE = 3, 6
LIVES = ("survives", "no test passes it")
# File, mutation, kind and reason; a mutation of one function may be listed as often as it can be made there.
RECORD = Path(__file__).with_name("lives.tsv")


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))


def run(tests, timeout, **switches):
    """Exit code and output; `None` after the timeout."""
    env = {**os.environ, "PROPTEST_CASES": "64", "RUST_BACKTRACE": "0", **switches}
    command = [TESTS, "--exact", "--test-threads=1", *tests]
    try:
        done = subprocess.run(command, env=env, capture_output=True, timeout=timeout, preexec_fn=limited)
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def cover(test):
    """Which switches a test passes, how long it takes, and whether a panic is its end."""
    with tempfile.NamedTemporaryFile() as record:
        begun = time.monotonic()
        code, _ = run([test], 300, SWITCH_RECORD=record.name)
        took = time.monotonic() - begun
        passed = [int(n) for n in Path(record.name).read_text().split()]
    fast, _ = run([test], 300, SWITCH_FAST="1")
    return test, {"holds": code == 0, "fast": fast == 0, "s": took, "passed": passed}


def judge(number, tests, covered):
    if not tests:
        return LIVES[1]
    for fast in (True, False):
        rest = sorted((test for test in tests if covered[test]["fast"] is fast), key=lambda test: covered[test]["s"])
        for size in GROUPS:
            group, rest = rest[:size], rest[size:]
            if not group:
                break
            patience = PATIENCE_S + PATIENCE * sum(covered[test]["s"] for test in group)
            switches = {"SWITCH": str(number), **({"SWITCH_FAST": "1"} if fast else {})}
            code, said = run(group, patience, **switches)
            if code is None:
                return "hangs"
            if code != 0:
                failed = re.findall(r"^test (\S+) \.\.\. FAILED", said, re.M)
                return (failed or re.findall(r"^test (\S+) \.\.\.", said, re.M)[-1:] or ["?"])[0]
    return LIVES[0]


def table(states, verdicts):
    columns = ("file", "mutants", "do not build", "not switched", "killed", "hang", "survive", "no test")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    counts = {}
    for number, state in states.items():
        count = counts.setdefault(state["file"], Counter())
        verdict = verdicts.get(number, state["state"])
        kinds = {"hangs": "hang", LIVES[0]: "survive", LIVES[1]: "no test", "does not build": "do not build"}
        count[kinds.get(verdict, "killed" if number in verdicts else "not switched")] += 1
        count["mutants"] += 1
    for file, count in [*sorted(counts.items()), ("**all**", sum(counts.values(), Counter()))]:
        print(f"| {file} | " + " | ".join(str(count[column]) for column in columns[1:]) + " |")


def why_they_live():
    """By file and mutation, the reasons on record."""
    reasons = {}
    for line in RECORD.read_text().splitlines()[1:]:
        file, mutation, kind, reason = line.split("\t")
        reasons.setdefault((file, mutation), []).append(f"{kind}: {reason}")
    return reasons


def main():
    states = {int(number): state for number, state in json.loads(STATES.read_text()).items()}
    listed = subprocess.run([TESTS, "--list"], capture_output=True, text=True, check=True).stdout
    tests = re.findall(r"^((?:core|sim)::\S+): test$", listed, re.M)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        covered = dict(pool.map(cover, tests))
        broken = [test for test, cover in covered.items() if not cover["holds"]]
        if broken:
            sys.exit(f"these tests fail without any mutant: {', '.join(broken)}")
        passing = {}
        for test, what in covered.items():
            for number in what["passed"]:
                passing.setdefault(number, []).append(test)
        VERDICTS.touch()
        verdicts = {line["mutant"]: line["verdict"] for line in map(json.loads, VERDICTS.read_text().splitlines())}
        todo = [number for number, state in states.items() if state["state"] == "in" and number not in verdicts]
        print(f"{len(tests)} tests, {len(todo)} mutants", file=sys.stderr)
        with VERDICTS.open("a") as kept:
            judged = pool.map(lambda number: judge(number, passing.get(number, []), covered), todo)
            for done, (number, verdict) in enumerate(zip(todo, judged), 1):
                verdicts[number] = verdict
                print(json.dumps({"mutant": number, "verdict": verdict}), file=kept, flush=True)
                if done % 100 == 0:
                    print(f"{done} of {len(todo)}", file=sys.stderr)
    table(states, verdicts)
    print()
    reasons, unexplained = why_they_live(), 0
    for number, verdict in sorted(verdicts.items()):
        if verdict in LIVES:
            file, _, _, mutation = states[number]["name"].split(":", 3)
            known = reasons.get((file, mutation.strip()))
            unexplained += not known
            print(f"{verdict}: {states[number]['name']}\n    {known.pop(0) if known else 'NOT ON RECORD'}")
    print(f"\n{unexplained} of those that live are not on record in {RECORD.name}")
    sys.exit(unexplained > 0)


main()
