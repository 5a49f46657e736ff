"""Finds the mutants that the compiler objects to.

    drop.py TREE CHECK.json DROPPED

CHECK.json is what `cargo check --message-format json` says of a tree that `switch.py` has rewritten. Their numbers are
added to DROPPED. Ends with 1 if an error leads to none.
"""

import json
import re
import sys
from pathlib import Path

TREE, CHECK, DROPPED = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
# A deleted arm may be missed by the whole match, whose error tells only where it begins.
LINES_OF_A_MATCH = 90


def numbers(pattern, lines):
    return {n for line in lines for n in re.findall(pattern, line)}


def spans(message):
    yield from message.get("spans", [])
    for child in message.get("children", []):
        yield from spans(child)


def blamed(message):
    first = [span for span in message["spans"] if span["is_primary"]]
    for group in (first, list(spans(message))):
        found = set()
        for span in group:
            path = TREE / span["file_name"]
            if path.exists():
                lines = path.read_text().split("\n")[span["line_start"] - 1 : min(span["line_end"], span["line_start"] + 3)]
                found |= numbers(r"/\*M(\d+)\*/", lines) or numbers(r"crate::switches::on\((\d+)\)", lines)
        if found:
            return found
    if (message.get("code") or {}).get("code") == "E0004":
        lines = (TREE / first[0]["file_name"]).read_text().split("\n")[first[0]["line_start"] :][:LINES_OF_A_MATCH]
        return numbers(r"/\*M(\d+)\*/ !crate", lines)
    return set()


dropped, riddles = set(), []
for line in CHECK.read_text().splitlines():
    said = json.loads(line)
    if said["reason"] == "compiler-message" and said["message"]["level"] == "error" and said["message"]["spans"]:
        found = blamed(said["message"])
        dropped |= found
        riddles += [] if found else [said["message"]["rendered"]]
with DROPPED.open("a") as file:
    print(*sorted(dropped, key=int), sep="\n", file=file)
print(f"{len(dropped)} mutants do not compile", file=sys.stderr)
if not dropped:
    sys.exit("\n".join(riddles) or "the tree does not compile, and no error tells why")
