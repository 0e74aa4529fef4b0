"""Rules of the layout, read from the source: imports run one way, nothing dangerous, files of a readable size.

A rule holds for whatever there is, so that a new file needs no entry here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "pipeline"
# A folder imports itself, folders to its left and top-level files; `docs/architecture.md` says the same.
LAYERS = (
    *("config", "engine", "demo", "data", "training", "prediction", "submission", "report", "segmentation"),
    *("work", "bootstrap", "commands"),
)
EVERYWHERE = ("errors", "paths", "files", "wording")  # small and without third-party packages
LEAVES = ("task", "scores", "intervals")  # what data/ and the folders after it share
ON_TOP = ("pipeline.work", "pipeline.commands", "pipeline.stages", "pipeline.__main__")
TABLE_FOR = "pipeline/engine/api.py"  # names the table of stages for the engine, which is handed it otherwise
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 330, 60
MOST_STAGES_NAMED = 3  # an ensemble starts three stages of its members
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
SOURCES = {path.relative_to(PROJECT).as_posix(): ast.parse(path.read_text()) for path in FILES}
HEAVY = {"torch", "cv2", "pandas", "numpy", "albumentations", "matplotlib", "scipy", "sklearn", "timm"}
NOT_OUR_WORDS = {"img", "imgs", "msk", "gt", "util", "utils", "helper", "helpers", "manager", "pr", "prs"}


def imports_of(tree: ast.AST, is_top_only: bool = False) -> Iterator[str]:
    """Yields the dotted names that a module imports, also inside functions unless told otherwise."""
    nodes = tree.body if is_top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(path: str) -> str | None:
    folder = path.split("/")[1]
    return folder if folder in LAYERS else None


def is_the_table(path: str, name: str) -> bool:
    return path == TABLE_FOR and name.startswith("pipeline.stages")


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_is_something_to_read():
    assert len(SOURCES) > 20
    assert {path.split("/")[1] for path in SOURCES if path.count("/") > 1} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_folder_imports_itself_and_folders_to_its_left_only(layer):
    allowed = {
        *LAYERS[: LAYERS.index(layer) + 1],
        *EVERYWHERE,
        *(LEAVES if layer not in ("config", "engine", "demo") else ()),
        *(("stages", "download") if layer == "commands" else ()),
    }
    wrong = [
        f"{path} imports {name}"
        for path, tree in SOURCES.items()
        if layer_of(path) == layer
        for name in imports_of(tree)
        if name.startswith("pipeline.") and name.split(".")[1] not in allowed and not is_the_table(path, name)
    ]
    assert wrong == []


def test_what_may_be_imported_everywhere_imports_nothing_but_its_like():
    for name in EVERYWHERE:
        tree = SOURCES[f"pipeline/{name}.py"]
        foreign = {imported.partition(".")[0] for imported in imports_of(tree)} - set(sys.stdlib_module_names)
        assert foreign <= {"pipeline"}, name
        ours = {imported.split(".")[1] for imported in imports_of(tree) if imported.startswith("pipeline.")}
        assert ours <= set(EVERYWHERE), name


def test_only_the_top_imports_the_stages_their_work_and_the_commands():
    wrong = [
        f"{path} imports {name}"
        for path, tree in SOURCES.items()
        if not path.startswith(("pipeline/work/", "pipeline/commands/", "pipeline/__main__.py"))
        for name in imports_of(tree)
        if f"{name}.".startswith(tuple(f"{top}." for top in ON_TOP)) and not is_the_table(path, name)
    ]
    assert wrong == []


def test_no_modules_import_each_other():
    modules = {path.removesuffix(".py").replace("/", "."): tree for path, tree in SOURCES.items()}
    open_imports = {name: set(imports_of(tree)) & modules.keys() for name, tree in modules.items()}
    while free := {name for name, imported in open_imports.items() if not imported & open_imports.keys()}:
        open_imports = {name: imported for name, imported in open_imports.items() if name not in free}
    assert sorted(open_imports) == []


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_imports_its_like_only(name):
    ours = {
        imported.split(".")[1] for imported in imports_of(SOURCES[f"pipeline/{name}.py"]) if "pipeline." in imported
    }
    assert ours <= {*EVERYWHERE, *LEAVES, "config", "engine"}


@pytest.mark.parametrize("layer", ["config", "engine"])
def test_config_and_engine_import_no_heavy_package(layer):
    for path, tree in SOURCES.items():
        if layer_of(path) == layer:
            assert not {name.partition(".")[0] for name in imports_of(tree)} & HEAVY, path


def test_the_table_of_stages_needs_no_package():
    code = "import pipeline.stages"
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def texts_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the string literals of a module with their lines, without docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    docstrings = {node.body[0].value for node in nodes if ast.get_docstring(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.lineno, node.value


def artefact_names() -> set[str]:
    """Returns the names of files and folders that `paths.py` gives."""
    from pipeline import paths

    return {value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)}


def artefacts_spelled(tree: ast.AST, names: set[str]) -> list[str]:
    """Returns the artefact names that a module spells: as a literal of its own, or a file inside a longer text."""
    files = {name for name in names if "." in name.rpartition("/")[2]}
    return [
        f"{line} {name}"
        for line, text in texts_of(tree)
        for name in sorted(names)
        if text == name or (name in files and re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text))
    ]


def test_the_names_of_artefacts_are_spelled_in_paths_only():
    names = artefact_names()
    assert {"split.csv", "best.ckpt", "probs/test", ".stages", "refused.json"} <= names
    found = {path: artefacts_spelled(tree, names) for path, tree in SOURCES.items() if path != "pipeline/paths.py"}
    assert {path: spelled for path, spelled in found.items() if spelled} == {}


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("path = folder / 'split.csv'", ["1 split.csv"]),
        ("print(f'see {folder}/split.csv, and more')", ["1 split.csv"]),
        ("def read():\n    'Reads split.csv.'\n    # split.csv\n    return 'my_split.csv'", []),
        ("folder = 'plots'", ["1 plots"]),
        ("print('draws plots')", []),
    ],
)
def test_each_way_to_spell_an_artefact_would_be_seen(code, wanted):
    assert artefacts_spelled(ast.parse(code), {"split.csv", "plots"}) == wanted


def test_the_names_of_the_stages_are_listed_in_the_table_only():
    from pipeline.stages import STAGE_NAMES

    lists = (ast.Tuple, ast.List, ast.Set, ast.Dict)
    found = {}
    for path, tree in SOURCES.items():
        for node in (node for node in ast.walk(tree) if isinstance(node, lists)):
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            named = [item.value for item in items if isinstance(item, ast.Constant) and item.value in STAGE_NAMES]
            if len(named) > MOST_STAGES_NAMED:
                found[f"{path}:{node.lineno}"] = named
    assert found == {}


def test_data_needs_torch_in_its_dataset_and_loaders_only():
    with_torch = {
        path for path, tree in SOURCES.items() if "torch" in {name.partition(".")[0] for name in imports_of(tree)}
    }
    of_data = {path for path in with_torch if layer_of(path) == "data"}
    assert of_data <= {f"pipeline/data/{name}.py" for name in ("dataset", "loaders", "sampler")}


@pytest.mark.parametrize("layer", ["submission", "report"])
def test_submission_and_report_load_no_torch(layer, python_modules):
    modules = [path.removesuffix(".py").replace("/", ".") for path in SOURCES if layer_of(path) == layer]
    loaded = python_modules("\n".join(f"import {module.removesuffix('.__init__')}" for module in modules))
    assert "pipeline" in loaded
    assert not loaded & {"torch", "torchvision", "timm", "segmentation_models_pytorch"}
    for path, tree in SOURCES.items():
        if layer_of(path) == layer:
            assert "torch" not in {name.partition(".")[0] for name in imports_of(tree)}, path


def test_the_command_line_starts_without_heavy_packages(python_modules):
    loaded = python_modules("import pipeline.__main__ as main; main.main(['show', 'ExpAAB'])")
    assert not loaded & HEAVY


def test_the_setup_needs_no_package():
    modules = ("bootstrap.environment", "bootstrap.doctor", "errors", "files", "paths", "wording")
    code = "import " + ", ".join(f"pipeline.{module}" for module in modules)
    # -S: without the packages of others, as on a fresh machine.
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def calls_of(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yields the calls of a module with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword_of(call: ast.Call, name: str) -> object:
    """Returns a call's keyword when it is written as a constant."""
    values = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open", "dill.load"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.full_load_all", "yaml.unsafe_load_all"),
    *("joblib.load", "pd.read_pickle", "pandas.read_pickle", "hub.load", "torch.hub.load", "jsonpickle.decode"),
}


def dangers_of(tree: ast.AST) -> list[str]:
    found = []
    for name, call in calls_of(tree):
        if name in FORBIDDEN_CALLS:
            found.append(f"calls {name}")
        if keyword_of(call, "weights_only") is False or keyword_of(call, "allow_pickle") is True:
            found.append(f"{name} may run pickled code")
        if name == "torch.load" and keyword_of(call, "weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if keyword_of(call, "shell") is True:
            found.append(f"{name} through a shell")
    return found


def test_nothing_in_the_tree_runs_code_from_data():
    found = [f"{path}: {danger}" for path, tree in SOURCES.items() for danger in dangers_of(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        *(
            "eval('1')",
            "yaml.load(text)",
            "yaml.load(text, Loader=yaml.Loader)",
            "pickle.loads(data)",
            "torch.load(path)",
        ),
        *("torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "subprocess.run(x, shell=True)"),
    ],
)
def test_each_danger_would_be_seen(code):
    assert dangers_of(ast.parse(code))


def test_no_file_is_longer_than_a_head_can_hold():
    lengths = {path.relative_to(PROJECT).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_every_function_fits_a_screen():
    long = {
        f"{path}:{function.lineno} {function.name}": function.end_lineno - function.lineno + 1
        for path, tree in SOURCES.items()
        for function in functions_of(tree)
        if function.end_lineno - function.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    }
    assert long == {}


def test_every_module_and_public_function_says_what_it_is():
    silent = [path for path, tree in SOURCES.items() if tree.body and not ast.get_docstring(tree)]
    for path, tree in SOURCES.items():
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            is_one_line = len(function.body) == 1 and isinstance(function.body[0], ast.Return)
            if not function.name.startswith("_") and not is_one_line and not ast.get_docstring(function):
                silent.append(f"{path}:{function.lineno} {function.name}")
    assert silent == []


def names_given_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the names that a module itself gives: functions, classes, arguments, variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def test_names_are_our_words():
    wrong = [
        f"{path}:{line} {name}"
        for path, tree in SOURCES.items()
        for line, name in names_given_in(tree)
        if set(name.lower().split("_")) & NOT_OUR_WORDS
    ]
    wrong += [path for path in SOURCES if set(Path(path).stem.split("_")) & NOT_OUR_WORDS]
    assert wrong == []


def test_the_source_is_python_3_10():
    for path in FILES:
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_no_file_names_a_machine_or_leaves_work_for_later():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("needs git to tell the project's files from others")
    # Put together here, so that this file does not contain them.
    later = "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"])
    wanted = re.compile(rf"\b({later})\b|(?<![\w.])/(root|home/\w+|work/(main|shared))/")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = PROJECT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:8000]:
            text = path.read_text(errors="replace")
            found += [f"{name}: {match.group()}" for match in wanted.finditer(text)]
    assert found == []


def test_the_architectures_of_the_config_are_those_that_can_be_built():
    names = [
        tree
        for path, tree in SOURCES.items()
        if path in ("pipeline/config/schema.py", "pipeline/segmentation/networks.py")
    ]
    listed = [
        {node.value for node in ast.walk(part) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        for tree in names
        for part in ast.walk(tree)
        if (isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "Architecture")
        or (isinstance(part, ast.FunctionDef) and part.name == "_architectures")
    ]
    assert len(listed) == 2
    assert listed[0] == listed[1]


def test_the_readme_shows_every_command():
    from pipeline.commands.table import COMMANDS

    text = (PROJECT / "README.md").read_text()
    assert [name for name in COMMANDS if f"./run.sh {name}" not in text] == []


def test_documents_that_are_named_exist():
    texts = [*SOURCES, "README.md"]
    named = {name for path in texts for name in re.findall(r"\bdocs/[\w.-]+\.md\b", (PROJECT / path).read_text())}
    assert {name for name in named if not (PROJECT / name).is_file()} == set()
    assert "docs/conventions.md" in named
