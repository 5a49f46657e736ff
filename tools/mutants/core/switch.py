"""Puts mutants behind switches: mutant schemata (Untch, Offutt, Harrold: Mutation analysis using mutant schemata, 1993).

    switch.py TREE MUTANTS.json STATES.json [DROPPED]

Rewrites the sources under TREE that MUTANTS.json (`cargo mutants --list --json`) names. Mutant n, counted from one, is
in force where `crate::switches::on(n)` is true. STATES.json tells of each whether it is in, or why not. DROPPED holds
numbers that do not compile. Every mutant stands on lines of its own between /*Mn*/ and /*En*/, so that an error of the
compiler leads to it.
"""

import json
import sys
from pathlib import Path

import tree_sitter
import tree_sitter_rust

ON = "crate::switches::on"
# Evaluated when compiling, or no expression: nothing can be switched there.
CONSTANT = {"const_item", "static_item", "array_type", "enum_variant", "const_block", "macro_invocation", "attribute_item"}
OPERATIONS = ("binary_expression", "compound_assignment_expr", "unary_expression", "let_chain")
parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))


def is_const(function):
    return any(b"const" in child.text for child in function.children if child.type == "function_modifiers")


def is_constant(node):
    while node is not None and node.type != "function_item":
        if node.type in CONSTANT:
            return True
        node = node.parent
    return node is not None and is_const(node)


def above(node, kinds):
    while node is not None and node.type not in kinds:
        node = node.parent
    return node


class File:
    def __init__(self, path):
        self.path, self.source = path, path.read_bytes()
        self.root = parser.parse(self.source).root_node
        self.lines = self.source.decode().split("\n")
        self.offsets = [0]
        for line in self.source.split(b"\n"):
            self.offsets.append(self.offsets[-1] + len(line) + 1)
        # By node: what it may be instead.
        self.expressions, self.bodies, self.arms = {}, {}, {}

    def point(self, at):
        line = at["line"] - 1
        return line, len(self.lines[line][: at["column"] - 1].encode())

    def byte(self, point):
        return self.offsets[point[0]] + point[1]

    def text(self, start, end):
        return self.source[start:end].decode()

    def put(self, number, mutant):
        """Takes a mutant in, or says why not."""
        start, end = self.point(mutant["span"]["start"]), self.point(mutant["span"]["end"])
        genre, replacement = mutant["genre"], mutant["replacement"]
        node = self.root.descendant_for_point_range(start, start if genre == "FnValue" else end)
        if genre == "FnValue":
            function = above(node, ("function_item",))
            if function is None or is_const(function):
                return "a constant function"
            if "impl " in (mutant["function"]["return_type"] or ""):
                return "returns an unnamed type"
            self.bodies.setdefault(function.child_by_field_name("body").id, []).append((number, replacement))
        elif genre in ("BinaryOperator", "UnaryOperator"):
            node = above(node, OPERATIONS)
            if node is None or node.type == "let_chain" or is_constant(node):
                return "a constant, or a chain of lets"
            first, last = self.byte(start), self.byte(end)
            if node.type == "unary_expression":
                instead = replacement + self.text(last, node.end_byte)
            else:
                instead = f"{self.text(node.start_byte, first)} {replacement} {self.text(last, node.end_byte)}"
            self.expressions.setdefault(node.id, []).append((number, instead))
        elif genre == "MatchArm":
            self.arms[above(node, ("match_arm",)).id] = number
        elif genre == "MatchArmGuard":
            if node.type in ("let_chain", "let_condition"):
                return "a constant, or a chain of lets"
            self.expressions.setdefault(node.id, []).append((number, replacement))
        else:
            return "a field of a struct"
        return "in"

    def write(self):
        before, after = self.text(0, self.root.start_byte), self.text(self.root.end_byte, len(self.source))
        self.path.write_text(before + self.render(self.root) + after)

    def render(self, node):
        text = self.with_guard(node) if node.id in self.arms else self.parts(node, node.start_byte)
        if node.id in self.expressions:
            # Only one is in force at a time: the others' text may stay as it is.
            others = "".join(
                f"if {ON}({n}) {{\n/*M{n}*/ {' '.join(instead.splitlines())} /*E{n}*/\n}} else "
                for n, instead in self.expressions[node.id]
            )
            whole = f"{others}{{ {text} }}"
            return whole if node.type == "compound_assignment_expr" else f"({whole})"
        if node.id in self.bodies:
            others = "".join(
                f"\nif {ON}({n}) {{\n/*M{n}*/ return {instead}; /*E{n}*/\n}}" for n, instead in self.bodies[node.id]
            )
            return "{" + others + text[1:]
        return text

    def parts(self, node, at):
        parts = []
        for child in node.children:
            if child.start_byte >= at:
                parts += [self.text(at, child.start_byte), self.render(child)]
                at = child.end_byte
        return "".join([*parts, self.text(at, node.end_byte)])

    def with_guard(self, arm):
        """An arm is deleted by a guard that is false."""
        n, pattern = self.arms[arm.id], arm.child_by_field_name("pattern")
        switch = f"\n/*M{n}*/ !{ON}({n}) /*E{n}*/\n"
        guard = pattern.child_by_field_name("condition")
        if guard is None:
            guarded = f"{self.text(pattern.start_byte, pattern.end_byte)} if{switch}"
        else:
            rendered = self.render(guard)
            rendered = rendered if guard.type in ("let_chain", "let_condition") else f"({rendered})"
            guarded = f"{self.text(pattern.start_byte, guard.start_byte)}{switch}&& {rendered}"
        return self.text(arm.start_byte, pattern.start_byte) + guarded + self.parts(arm, pattern.end_byte)


def main():
    tree, listed, states = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    dropped = set(Path(sys.argv[4]).read_text().split()) if len(sys.argv) > 4 else set()
    files, told = {}, {}
    for number, mutant in enumerate(json.loads(listed.read_text()), 1):
        path = mutant["file"]
        if path not in files:
            files[path] = File(tree / path)
        state = "does not build" if str(number) in dropped else files[path].put(number, mutant)
        told[number] = {"name": mutant["name"], "file": path, "state": state}
    for file in files.values():
        file.write()
    states.write_text(json.dumps(told))


main()
