import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ("train_meta", "evaluate")
RANKS = (
    {"errors", "version", "types", "trees", "layout", "files", "pretrained"},
    {"models", "tasks"},
    {"policies"},
    {"inner"},
    {"outer"},
    {"evaluation", "search", "export", "estimators"},
    {"report", "tracking"},
    {"config"},
    {"commands"},
    {"__init__", *SCRIPTS},
)
RANK_OF = {unit: rank for rank, units in enumerate(RANKS) for unit in units}


def unit_of(module):
    """What has a rank: a package or module right below metaopt, or a script, as a package's __main__ is one."""
    if module.endswith(".__main__"):
        return SCRIPTS[0]
    first, *rest = module.split(".")
    return first if first != "metaopt" else (rest or ["__init__"])[0]


def imports_of(source, module, is_package, known):
    """The modules among `known` that a module imports anywhere, in functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: len(module.split(".")) + is_package - node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{start}.{alias.name}"
                found.add(inner if inner in known else start)
    return found & known


def unranked(graph):
    return sorted(module for module in graph if unit_of(module) not in RANK_OF)


def upward(graph):
    return sorted(
        f"{module} imports {imported}, which ranks above it"
        for module, imports in graph.items()
        for imported in imports
        if RANK_OF[unit_of(imported)] > RANK_OF[unit_of(module)]
    )


def cycle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " → ".join(error.args[1])
    return None


def files():
    found = {name: ROOT / f"{name}.py" for name in SCRIPTS if (ROOT / f"{name}.py").exists()}
    for path in (ROOT / "metaopt").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.fixture(scope="module")
def graph():
    paths = files()
    return {
        module: imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py", set(paths))
        for module, path in paths.items()
    }


def run(code):
    strict = ("-W", "error", "-W", "ignore:invalid escape sequence", "-W", 'ignore:"is" with a literal')  # higher's
    done = subprocess.run([sys.executable, *strict, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_everything_has_a_rank(graph):
    assert unranked(graph) == []


def test_nothing_imports_upwards(graph):
    assert upward(graph) == []


def test_there_is_no_cycle_between_modules(graph):
    assert cycle(graph) is None


def test_the_graph_is_the_real_one(graph):
    assert "metaopt.report.headline" in graph["metaopt.report.style"]
    assert "metaopt.report.style" in graph["metaopt.report.differences"]  # from metaopt.report import style
    assert "metaopt.export.loaded" in graph["metaopt"]  # for type checkers
    assert len(graph) > 50


def test_the_checks_find_an_upward_import_and_name_both_modules():
    graph = {"metaopt.inner.unroll": {"metaopt.outer.loop"}, "metaopt.outer.loop": set()}
    assert upward(graph) == ["metaopt.inner.unroll imports metaopt.outer.loop, which ranks above it"]
    assert (
        upward({"metaopt.outer.loop": {"metaopt.inner.unroll"}, "metaopt.models.mlp": {"metaopt.tasks.images.ways"}})
        == []
    )


def test_the_checks_find_a_cycle_within_a_rank_and_name_its_modules():
    mlp, ways = "metaopt.models.mlp", "metaopt.tasks.images.ways"
    found = cycle({mlp: {ways}, ways: {mlp}})
    assert found is not None
    assert mlp in found
    assert ways in found


def test_the_checks_find_what_has_no_rank():
    assert unranked({"metaopt": set(), "metaopt.plugins.new": set(), "metaopt.errors": set()}) == [
        "metaopt.plugins.new"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "import metaopt.outer.loop",
        "from metaopt.outer.loop import meta_train",
        "from metaopt.outer import loop",
        "from ..outer.loop import meta_train",
        "from ..outer import loop",
        "def f():\n    from metaopt.outer import loop",
        "if TYPE_CHECKING:\n    from metaopt.outer.loop import meta_train",
    ],
)
def test_every_way_of_importing_is_seen(line):
    assert imports_of(line, "metaopt.inner.unroll", False, {"metaopt.outer.loop", "metaopt"}) == {"metaopt.outer.loop"}


def test_a_packages_own_relative_import_starts_at_the_package():
    assert imports_of("from . import loop", "metaopt.outer", True, {"metaopt.outer.loop"}) == {"metaopt.outer.loop"}


def test_importing_metaopt_imports_nothing_heavy():
    assert (
        run("import metaopt, sys; print(*{'torch', 'numpy', 'wandb', 'matplotlib', 'hydra'} & set(sys.modules))") == []
    )


def test_importing_all_modules_says_nothing_and_changes_nothing(graph):
    # One process for all, since torch takes seconds to import. W&B is imported only by a run that is tracked, and
    # pyplot, which sets global state, by nobody. Only what is an estimator of scikit-learn's needs that package.
    estimators = {module for module in graph if unit_of(module) == "estimators"}
    imports, last = (
        "; ".join(f"import {module}" for module in sorted(own)) for own in (set(graph) - estimators, estimators)
    )
    state = "torch.random.initial_seed(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()"
    code = (
        f"import sys, torch; before = {state}; {imports}; assert before == ({state}); "
        f"print(*{{'wandb', 'matplotlib.pyplot', 'sklearn', 'pandas'}} & set(sys.modules)); {last}; "
        f"assert before == ({state}); print(*{{'wandb', 'matplotlib.pyplot'}} & set(sys.modules))"
    )
    assert run(code) == []
