"""YAML files become trees that know their lines; trees merge, and become dataclasses or a clear refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.plain_yaml import DEEPEST
from pipeline.config.tree import Leaf, Tree, build, leaf_origins, merge, override_tree, read_tree
from pipeline.errors import UserError


@dataclass(frozen=True)
class Inner:
    max_lr: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Other:
    batch_size: int = 1
    max_weight: float = 1.0


@dataclass(frozen=True)
class Outer:
    title: str
    solver: Inner
    loader: Other = Other()


def tree_of(text: str | bytes, folder: Path) -> Tree:
    path = folder / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tree(path, "configs/x.yaml")


def built(text: str, folder: Path) -> Outer:
    return build(tree_of(text, folder), Outer)


def refusal(text: str | bytes, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        build(tree_of(text, folder), Outer)
    return str(caught.value)


def plain(tree: Tree) -> dict:
    return {key: plain(value) if isinstance(value, Tree) else value.node.value for key, value in tree.items()}


GOOD = "TITLE: a\nSOLVER:\n  MAX_LR: 5e-5\n  NAMES: [x, y]\n"


@pytest.mark.parametrize("text", [GOOD, GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, "# words\n---\n" + GOOD + "...\n"])
def test_line_ends_byte_order_marks_and_document_signs_do_not_matter(text, tmp_path):
    assert built(text, tmp_path) == Outer("a", Inner(5e-5, ("x", "y")))


def test_every_value_knows_its_line(tmp_path):
    assert leaf_origins(tree_of(GOOD, tmp_path)) == {
        "TITLE": "configs/x.yaml:1",
        "SOLVER.MAX_LR": "configs/x.yaml:3",
        "SOLVER.NAMES": "configs/x.yaml:4",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "configs/x.yaml: TITLE is missing; add it"),
        ("# only words\n", "configs/x.yaml: TITLE is missing; add it"),
        ("TITLE: a\nSOLVER:\n  NAMES: []\n", "configs/x.yaml:2: SOLVER.MAX_LR is missing; add it"),
        ("- a\n", "configs/x.yaml:1: found a list, expected lines of KEY: value"),
        ("\n\nwords\n", "configs/x.yaml:3: found 'words', expected lines of KEY: value"),
        (GOOD + "TITLE: b\n", "configs/x.yaml:5: TITLE is given twice, first at configs/x.yaml:1; keep one"),
        (
            GOOD + "SOLVER: {MAX_LR: 1}\n",
            "configs/x.yaml:5: SOLVER is given twice, first at configs/x.yaml:2; keep one",
        ),
        ("SOLVER: {MAX_LR: 1, MAX_LR: 2}\n", "configs/x.yaml:1: SOLVER.MAX_LR is given twice; keep one"),
        (GOOD + "? [a, b]\n: 1\n", "configs/x.yaml:5: found a list as a key, expected a word: KEY: value"),
        ("{? : 1}\n", "configs/x.yaml:1: found nothing as a key, expected a word: KEY: value"),
        (
            "TITLE: a\nSOLVER:\n",
            "configs/x.yaml:2: SOLVER: found nothing, expected a group of keys: MAX_LR, NAMES",
        ),
        (
            "TITLE: a\nSOLVER:\n  MAX_LR 1\n",
            "configs/x.yaml:2: SOLVER: found 'MAX_LR 1', expected a group of keys: MAX_LR, NAMES",
        ),
        ("TITLE: {A: 1}\nSOLVER: {MAX_LR: 1}\n", "configs/x.yaml:1: TITLE: found a group of keys, expected one value"),
        ("TITLE: {}\nSOLVER: {MAX_LR: 1}\n", "configs/x.yaml:1: TITLE: found a group of keys, expected one value"),
        ("TITLE: a\nSOLVER: {MAX_LR: x}\n", "configs/x.yaml:2: SOLVER.MAX_LR: found 'x', expected a number"),
        (
            "TITLE: a\nSOLVER: {MAX_LR: 1, NAMES: [{A: 1}]}\n",
            "configs/x.yaml:2: SOLVER.NAMES: item 1: found a mapping, expected text",
        ),
    ],
)
def test_a_refusal_names_file_line_and_key(text, message, tmp_path):
    assert refusal(text, tmp_path) == message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("SOLVER: {MAXLR: 1}", "unknown key SOLVER.MAXLR; did you mean SOLVER.MAX_LR?"),
        ("SOLVER: {max_lr: 1}", "unknown key SOLVER.max_lr; did you mean SOLVER.MAX_LR?"),
        ("SOLVER: {MAX_RL: 1}", "unknown key SOLVER.MAX_RL; did you mean SOLVER.MAX_LR?"),
        ("SOLVER: {BATCH_SIZE: 1}", "unknown key SOLVER.BATCH_SIZE; did you mean LOADER.BATCH_SIZE?"),
        ("SOLVER: {MAX_WEIHGT: 1}", "unknown key SOLVER.MAX_WEIHGT; did you mean LOADER.MAX_WEIGHT?"),
        ("solver: {max_lr: 1}", "unknown key solver.max_lr; did you mean SOLVER.MAX_LR?"),
        ("solvre: {a: 1, b: 2}", "unknown key solvre; did you mean SOLVER?"),
        ("MAX_LR: 1", "unknown key MAX_LR; did you mean SOLVER.MAX_LR?"),
        ("SOLVER.MAX_LR: 1", "unknown key SOLVER.MAX_LR; in a file groups are nested: SOLVER: {MAX_LR: ...}"),
        ("NOVEL: {}", "unknown key NOVEL; the keys of this group are TITLE, SOLVER, LOADER"),
        ("<<: {A: 1}", "unknown key <<.A; the keys of this group are TITLE, SOLVER, LOADER"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_probably_meant(key, hint, tmp_path):
    assert refusal(key + "\n", tmp_path) == f"configs/x.yaml:1: {hint}"


def test_all_unknown_keys_are_named_at_once(tmp_path):
    lines = refusal("TITEL: a\nSOLVER:\n  MAXLR: 1\n", tmp_path).splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "configs/x.yaml:1: unknown key TITEL",
        "configs/x.yaml:3: unknown key SOLVER.MAXLR",
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("TITLE: a\nSOLVER:\n\tMAX_LR: 1\n", 3, "indent with spaces, not tabs"),
        ("TITLE: [a\nSOLVER: {MAX_LR: 1}\n", 2, "that begins in line 1"),
        ("TITLE: a\n---\nTITLE: b\n", 2, "another document"),
        ("A: &a {B: 1}\nC: *a\n", 1, "&a: anchors and aliases are not supported"),
        ("A: 1\nB: *a\n", 2, "*a: anchors and aliases are not supported"),
        ("A: &a [*a]\n", 1, "anchors and aliases"),
        ("TITLE: !!python/object/apply:os.system [ls]\n", 1, "python/object/apply:os.system: tags are not supported"),
        ("TITLE: !!str 5\n", 1, "tags are not supported"),
        ("TITLE: ! 5\n", 1, "tags are not supported"),
        ("A: " + "[" * 3000, 1, f"more than {DEEPEST} levels of nesting"),
        ("A:\n" + "".join(" " * depth + "B:\n" for depth in range(1, 3000)), DEEPEST, "more than 20 levels"),
        ("A: 1\nB: a\x07b\n", 2, "the character U+0007 is not allowed in YAML"),
        (b"A: 1\nB: \xff\n", 2, "not UTF-8 text"),
        ("A: @x\n", 1, "cannot start any token"),
        (
            "A: 1\nB: a: b\n",
            2,
            "mapping values are not allowed here; indent the keys of a group equally, and quote text",
        ),
        ("A: 1\n  B: 2\n", 2, "mapping values are not allowed here"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text, line, words, tmp_path):
    message = refusal(text, tmp_path)
    assert message.startswith(f"configs/x.yaml:{line}: ")
    assert words in message


@pytest.mark.parametrize("text", ['TITLE: "\\UFFFFFFFF"', "%YAML 1." + "9" * 5000 + "\n---\nTITLE: a"])
def test_what_pyyaml_itself_fails_on_is_refused_too(text, tmp_path):
    assert refusal(text, tmp_path).startswith("configs/x.yaml")


def test_nested_aliases_are_refused_at_once(tmp_path):
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 40)]
    assert "anchors and aliases" in refusal("\n".join(lines), tmp_path)


def test_a_file_that_cannot_be_read_is_a_mistake_of_the_users(tmp_path):
    with pytest.raises(UserError, match=r"cannot read configs/x\.yaml: Is a directory"):
        read_tree(tmp_path, "configs/x.yaml")


def test_mappings_merge_and_lists_and_scalars_replace(tmp_path):
    parent = tree_of("A: 1\nL: [1, 2, 3]\nG:\n  X: 1\n  Y: {P: 1, Q: 2}\n", tmp_path)
    child = tree_of("A: 2\nL: [9]\nG:\n  Y: {Q: 3}\nN: 1\n", tmp_path)
    merged = merge(parent, child)
    assert [item.value for item in merged.pop("L").node.value] == ["9"]
    assert plain(merged) == {"A": "2", "G": {"X": "1", "Y": {"P": "1", "Q": "3"}}, "N": "1"}
    assert merged["G"]["Y"]["P"].origin == "configs/x.yaml:5"
    assert plain(parent)["G"] == {"X": "1", "Y": {"P": "1", "Q": "2"}}  # the parent is as it was


def test_an_empty_mapping_changes_nothing(tmp_path):
    parent = tree_of(GOOD, tmp_path)
    assert leaf_origins(merge(parent, tree_of("SOLVER: {}\n", tmp_path))) == leaf_origins(parent)


TREES = st.recursive(
    st.integers(0, 9),
    lambda children: st.dictionaries(st.sampled_from("ABC"), children, max_size=3),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict))


def tree_from(value: dict) -> Tree:
    items = {key: tree_from(item) if isinstance(item, dict) else Leaf(item, "") for key, item in value.items()}
    return Tree(items)


@given(TREES, TREES, TREES)
def test_merging_is_associative_and_the_child_wins(first, second, third):
    one, two, three = tree_from(first), tree_from(second), tree_from(third)
    assert merge(one, one) == one
    assert merge(Tree(), one) == merge(one, Tree()) == one
    assert set(leaf_origins(two)) <= set(leaf_origins(merge(one, two)))
    if not _clashes(first, second) and not _clashes(second, third) and not _clashes(first, third):
        assert merge(merge(one, two), three) == merge(one, merge(two, three))


def _clashes(first: dict, second: dict) -> bool:
    """Whether a key is a group in one and a value in the other."""
    pairs = [(first[key], second[key]) for key in first.keys() & second.keys()]
    return any(isinstance(a, dict) != isinstance(b, dict) or (isinstance(a, dict) and _clashes(a, b)) for a, b in pairs)


def test_overrides_reach_nested_keys_and_whole_groups(tmp_path):
    tree = override_tree(["TITLE=b", "SOLVER.MAX_LR=1e-4", "SOLVER={NAMES: [z]}", "LOADER={}"])
    assert build(merge(tree_of(GOOD, tmp_path), tree), Outer) == Outer("b", Inner(1e-4, ("z",)))
    assert leaf_origins(tree)["SOLVER.NAMES"] == "command line"


@pytest.mark.parametrize("assignment", ["SOLVER.MAX_LR", "=1", "SOLVER.=1", ".A=1", "A..B=1", "TITLE==x", ""])
def test_an_override_that_is_not_key_equals_value_is_refused(assignment):
    with pytest.raises(UserError, match=r"an override is written KEY=VALUE, for example SOLVER\.MAX_LR=5e-4"):
        override_tree([assignment])


@pytest.mark.parametrize(
    "assignments",
    [["A.B=1", "A.B=2"], ["A.B=1", "A={B: 2}"], ["A=1", "A.B=2"], ["A.B=2", "A=1"], ["A={B: 1, B: 2}"]],
)
def test_a_key_given_twice_on_the_command_line_is_refused(assignments):
    with pytest.raises(UserError, match=r"^command line: .* is given twice; keep one"):
        override_tree(assignments)


@pytest.mark.parametrize("text", ["@x", "*x", "&x y", "!x", "[1", "{a", "a: b: c", "'x", "%x", "a\x07"])
def test_a_value_that_is_not_yaml_is_refused_with_the_key_and_the_remedy(text):
    with pytest.raises(UserError) as caught:
        override_tree([f"TITLE={text}"])
    assert str(caught.value).startswith("command line: TITLE: ")
    assert "TITLE=\"'...'\"" in str(caught.value)


@pytest.mark.parametrize("text", ["@x", "*x", "=x", "5e-5", "# x", "a: b"])
def test_a_quoted_text_may_hold_anything(text):
    assert override_tree([f"TITLE='{text}'"])["TITLE"].node.value == text


def test_an_empty_value_is_null():
    assert override_tree(["TITLE="])["TITLE"].node.value == ""
