"""Reads the module tree of a crate and what its files import from each other.

A scanner, not a compiler: it knows `mod`, `use`, paths that start with `crate`, `self`, `super` or a child module, and
re-exports. That is enough for the rules of this workspace, and it needs no build.
"""

import re
from pathlib import Path

COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.S
)
TEST_ONLY = re.compile(r"#\[cfg\((?:test|all\(test[^\]]*|loom|any\(test[^\]]*)\)\]\s*(?:#\[[^\]]*\]\s*)*")
MODULE = re.compile(r"^[ \t]*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;", re.M)
ELSEWHERE = re.compile(r'#\[path = "([^"]+)"\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;')
USE = re.compile(r"^[ \t]*(?P<public>pub(?:\([^)]*\))?\s+)?use\s+(?P<tree>[^;]+);", re.M)
DEFINITION = re.compile(
    r"\b(?:fn|struct|enum|trait|type|const|static|union|macro_rules!)\s+(?:mut\s+)?(\w+)"
)
PATH = re.compile(r"(?<![\w:.])((?:crate|self|super|[a-z_][a-z0-9_]*)(?:::\w+)+)")


def blank(match):
    """Spaces in place of a match, so that offsets and lines stay."""
    return re.sub(r"[^\n]", " ", match.group(0))


def block_end(text, start):
    """Offset behind the block or statement that starts at `start`."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at + 1
        elif text[at] == ";" and depth == 0:
            return at + 1
    return len(text)


def code_of(source):
    """The source without comments, strings and what is compiled for tests alone."""
    text = COMMENT_OR_STRING.sub(blank, source)
    while match := TEST_ONLY.search(text):
        end = block_end(text, match.end())
        text = text[: match.start()] + re.sub(r"[^\n]", " ", text[match.start() : end]) + text[end:]
    return text


def leaves(tree, prefix=()):
    """Yields (path, name it is known by) for every leaf of a `use` tree; a glob's name is `*`."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        path, _, alias = tree.partition(" as ")
        path = prefix + tuple(part.strip() for part in path.split("::") if part.strip())
        if path and path[-1] == "self":
            path = path[:-1]
        yield path, (alias.strip() or path[-1])
        return
    prefix += tuple(part.strip() for part in head.split("::") if part.strip())
    depth, start = 0, 0
    inner = rest[: rest.rindex("}")]
    for at, char in enumerate(inner + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if inner[start:at].strip():
                yield from leaves(inner[start:at], prefix)
            start = at + 1


class File:
    """One source file: a module, its children, what it names from elsewhere, what it defines."""

    def __init__(self, path, module):
        self.path, self.module = path, module
        source = path.read_text()
        self.code = code_of(source)
        self.children = MODULE.findall(self.code)
        # A path is a string, which the code is without.
        self.elsewhere = {child: path.parent / at for at, child in ELSEWHERE.findall(source)}
        self.definitions = set(DEFINITION.findall(self.code))
        self.uses = []
        for match in USE.finditer(self.code):
            for target, name in leaves(match["tree"]):
                self.uses.append((bool(match["public"]), target, name))
        self.names = {name: target for _, target, name in self.uses if name != "*"}
        self.globs = [target[:-1] for _, target, name in self.uses if name == "*"]
        body = USE.sub(blank, self.code)
        self.paths = {tuple(path.split("::")) for path in PATH.findall(body)}


class Crate:
    """The files of a library or program, by module path."""

    def __init__(self, root):
        self.files = {}
        self.load(Path(root), ())

    def load(self, path, module):
        file = self.files[module] = File(path, module)
        # The root of a program has any name, and its children lie beside it.
        beside = not module or path.name == "mod.rs"
        folder = path.parent if beside else path.with_suffix("")
        for child in file.children:
            candidates = (folder / f"{child}.rs", folder / child / "mod.rs")
            if child in file.elsewhere:
                candidates = (file.elsewhere[child],)
            for candidate in candidates:
                if candidate.exists():
                    self.load(candidate, module + (child,))

    def absolute(self, file, path):
        """The path from the crate's root, or None for one that leads out of the crate."""
        module = file.module
        if path[0] == "crate":
            return path[1:]
        if path[0] in ("self", "super"):
            rest = list(path)
            while rest and rest[0] in ("self", "super"):
                if rest.pop(0) == "super":
                    module = module[:-1]
            return module + tuple(rest)
        if module + (path[0],) in self.files:
            return module + tuple(path)
        return None

    def home(self, path, seen=()):
        """The module whose file defines what `path` names, through re-exports."""
        if path in seen:
            return None
        module = path
        while module not in self.files:
            module = module[:-1]
        file, rest = self.files[module], path[len(module) :]
        if not rest or rest[0] in file.definitions:
            return module
        if rest[0] in file.names:
            target = self.absolute(file, file.names[rest[0]])
            return target is not None and self.home(target + rest[1:], seen + (path,)) or None
        for glob in file.globs:
            target = self.absolute(file, glob)
            if target in self.files and rest[0] in self.files[target].definitions:
                return target
        return module

    def imports(self, file):
        """Yields (module of the file that defines it, path as written) for all that `file` takes from others."""
        for public, target, name in file.uses:
            path = self.absolute(file, target[:-1] if name == "*" else target)
            if path is None:
                continue
            home = self.home(path)
            reexport = public and home is not None and home[: len(file.module)] == file.module
            if home not in (None, file.module) and not reexport:
                yield home, "::".join(target)
        for written in file.paths:
            path = self.absolute(file, written)
            if path is not None and (home := self.home(path)) not in (None, file.module):
                yield home, "::".join(written)
