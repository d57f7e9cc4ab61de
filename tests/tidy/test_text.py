"""What stands in the source and what does not, and how long it is."""

import ast
import re
import subprocess
import warnings

from tests.tidy.source import REPOSITORY, modules

# Spelled in two halves so that this file does not hold them itself.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
LOCAL_PATHS = re.compile(r"(?<![\w.])/(" + "|".join(["wo" + "rk/", "ho" + "me/"]) + r")")
SUFFIXES = {".py", ".rst", ".cfg", ".toml", ".ini", ".txt", ".conf", ".yaml", ""}

FILE_LINES = 400
FUNCTION_LINES = 60


def tracked_files():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [REPOSITORY / name for name in listed.splitlines()]


def lines_matching(pattern):
    return [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in tracked_files()
        if path.suffix in SUFFIXES and path.is_file() and path.name != "LICENSE"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_marked_as_unfinished():
    assert not lines_matching(UNFINISHED)


def test_no_path_of_somebodys_machine_is_written_down():
    assert not lines_matching(LOCAL_PATHS)


def test_only_programs_and_their_commands_print():
    printing = [
        f"{module.path.relative_to(REPOSITORY)}:{node.lineno}"
        for module in modules()
        if module.name.split(".")[0] not in ("cmd", "client", "demo") and module.name != "cells.operations"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert not printing


def test_sizes_are_reported():
    long_files, long_functions = [], []
    for module in modules():
        lines = module.text.count("\n")
        if lines > FILE_LINES:
            long_files.append(f"{lines:5} {module.path.relative_to(REPOSITORY)}")
        long_functions += [
            f"{node.end_lineno - node.lineno + 1:5} {module.path.relative_to(REPOSITORY)}:{node.lineno} {node.name}"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= FUNCTION_LINES
        ]
    for what, found in (("modules over 400 lines", long_files), ("functions over 60 lines", long_functions)):
        if found:
            warnings.warn(f"{what}:\n" + "\n".join(sorted(found, reverse=True)), stacklevel=1)

    assert modules()
