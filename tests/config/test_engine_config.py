import pytest
import torch

from metaopt.config.build import build_job
from metaopt.config.engine import build_objective
from metaopt.config.load import train_config
from metaopt.errors import ConfigError
from metaopt.inner import plan as planning
from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.compile import Eager, Inductor
from metaopt.inner.forward import Forward
from metaopt.inner.mixed import Mixed
from metaopt.inner.plan import MANY_TASKS, Plan
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.inner.truncated import Truncated
from metaopt.models.mlp import mlp
from metaopt.outer.loop import sample
from metaopt.types import Batch, Kind, TaskSpec

KINDS = {
    "reverse": Reverse,
    "mixed": Mixed,
    "checkpointing": Checkpointing,
    "truncated": Truncated,
    "forward": Forward,
    "first_order": Mixed,
}
QUICK = ("inner.task_chunk=2", "inner.compile=false")


@pytest.fixture
def build(tiny):
    """The function that builds the tiny job with overrides."""
    return lambda *overrides, **options: build_job(train_config(tiny(*overrides)), **options)


@pytest.fixture
def refusal(build):
    """The function that returns the one line in which overrides are refused."""

    def refused(*overrides):
        with pytest.raises(ConfigError) as caught:
            build(*overrides)
        text = str(caught.value)
        assert "\n" not in text
        return text

    return refused


def validation_hypergradients(job):
    problem, validation = job.problem, job.validation
    return problem.hypergradient(
        job.state.policy, problem.objective, validation.tasks, validation.draws, problem.horizon
    )


def test_there_is_a_class_for_each_method():
    assert set(KINDS) == set(planning.METHODS)


@pytest.mark.parametrize("name", KINDS)
def test_the_method_is_the_one_of_its_name(name, build):
    job = build(f"inner.hypergradient={name}", "policy=global", "inner.compile=false", "inner.task_chunk=2")
    assert type(job.problem.hypergradient) is KINDS[name]
    assert job.problem.hypergradient.chunk == 2
    assert (job.plan.hypergradient, job.plan.task_chunk, job.plan.compile) == (name, 2, False)


@pytest.mark.parametrize("second", ["reverse", "forward"])
@pytest.mark.parametrize("name", KINDS)
def test_the_method_gives_the_hypergradient_of_its_name(name, second, build):
    overrides = (*QUICK, "policy=global", f"inner.second_derivative={second}", "inner.dtype=float64")
    job = build(*overrides, f"inner.hypergradient={name}")
    found = validation_hypergradients(job)
    problem, (tasks, draws) = job.problem, job.validation
    plain = Reverse(first_order=name == "first_order")
    expected = plain(job.state.policy, problem.objective, tasks, draws, problem.horizon)
    torch.testing.assert_close(found.flat, expected.flat, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.loss, expected.loss)


def test_the_window_and_the_stored_steps_are_as_configured(build):
    assert build(*QUICK, "inner.hypergradient=truncated", "inner.window=7").problem.hypergradient.window == 7
    checkpointing = ("inner.hypergradient=checkpointing", *QUICK)
    assert build(*checkpointing, "inner.stored_steps=5").problem.hypergradient.stored == 5
    assert build(*checkpointing).problem.hypergradient.stored is None


def test_a_shorter_window_makes_another_hypergradient(build):
    overrides = (*QUICK, "inner.hypergradient=truncated")
    short, long = (validation_hypergradients(build(*overrides, f"inner.window={window}")).flat for window in (1, 3))
    assert not torch.allclose(short, long, rtol=1e-2)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("flag", "compiler"), [("true", Inductor), ("false", Eager)])
def test_compiling_is_as_configured(name, flag, compiler, build, monkeypatch):
    made = []
    for kind in (Inductor, Eager):
        monkeypatch.setattr(
            f"metaopt.config.engine.{kind.__name__}",
            lambda *args, kind=kind, **options: made.append(kind) or kind(*args, **options),
        )
    job = build(f"inner.hypergradient={name}", f"inner.compile={flag}", "inner.task_chunk=2", "policy=global")
    assert made == [compiler]
    assert job.plan.compile is (compiler is Inductor)


@pytest.fixture
def two_threads():
    """Torch is set to two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("overrides", "chunk", "workers"),
    [
        (("inner.hypergradient=mixed", "inner.compile=true"), 2, 2),
        (("inner.hypergradient=mixed", "inner.compile=true", "inner.task_chunk=3"), 3, 2),
        (("inner.hypergradient=mixed", "inner.compile=true", "inner.task_chunk=4"), 4, 1),
        (("inner.hypergradient=reverse", "inner.compile=true"), 2, 2),
        (("inner.hypergradient=forward", "policy=global", "inner.compile=true"), 4, 1),
        (("inner.hypergradient=mixed", "inner.compile=false"), 4, 1),
    ],
)
def test_the_compiler_is_for_as_many_threads_as_torch_is_set_to(
    overrides, chunk, workers, build, two_threads, monkeypatch
):
    made = []
    for kind in (Inductor, Eager):
        monkeypatch.setattr(
            f"metaopt.config.engine.{kind.__name__}",
            lambda *args, kind=kind, **options: made.append(kind(*args, **options)) or made[-1],
        )
    job = build(*overrides, "outer.meta_batch=4")
    (compiler,) = made
    assert (job.problem.hypergradient.chunk, compiler.workers) == (chunk, workers)
    assert (job.plan.task_chunk, job.plan.workers) == (chunk, workers)


def test_one_thread_is_one_worker(build):
    assert torch.get_num_threads() == 1
    plan = build("inner.hypergradient=mixed", "inner.compile=true", "outer.meta_batch=4").plan
    assert (plan.task_chunk, plan.workers) == (4, 1)


def test_the_warning_of_a_failed_compilation_goes_where_the_job_says(build, monkeypatch):
    monkeypatch.setattr("metaopt.inner.compile._inductor", lambda *_: 1 / 0)
    lines = []
    job = build("inner.hypergradient=mixed", "inner.compile=true", "inner.task_chunk=2", warn=lines.append)
    assert validation_hypergradients(job).flat.isfinite().all()
    (line,) = lines
    assert "inner.compile=false" in line


def test_a_plan_that_is_given_is_kept(build, monkeypatch):
    monkeypatch.setattr(planning, "fastest_chunk", lambda *_: pytest.fail("nothing is to be measured"))
    plan = Plan("checkpointing", 1, 5, False, "as before")
    job = build(plan=plan)
    assert job.plan == plan
    assert type(job.problem.hypergradient) is Checkpointing
    assert job.problem.hypergradient.chunk == 1
    assert job.problem.chunk == 5


def test_what_is_left_open_is_planned_and_told(build):
    job = build()
    assert job.plan.hypergradient == "reverse"  # three steps
    assert job.plan.task_chunk == 2
    assert not job.plan.compile
    card = job.card.config["inner"]
    assert (card["hypergradient"], card["compile"]) == ("reverse", False)
    assert card["task_chunk"] == job.plan.adapt_chunk == job.problem.chunk


CONV4 = ("model=conv4", "model.channels=2", "tracking=none", "inner.horizon=2", "outer.validation_tasks=2")


def test_only_convolutions_are_measured(build, composed, monkeypatch):
    asked = []
    monkeypatch.setattr(planning, "fastest_chunk", lambda size, _: asked.append(size) or (4, "measured"))
    assert build("outer.meta_batch=5").plan.task_chunk == 5
    assert not asked
    job = build_job(train_config(composed(*CONV4, "outer.meta_batch=5")))
    assert (job.plan.task_chunk, job.problem.chunk) == (4, 4)
    assert asked == [5]


def test_planning_changes_neither_the_policy_nor_the_tasks_that_follow(composed):
    planned, given = (build_job(train_config(composed(*CONV4, *more, "outer.meta_batch=2"))) for more in ((), QUICK))
    for (name, p), q in zip(planned.state.policy.named_parameters(), given.state.policy.parameters(), strict=True):
        assert torch.equal(p, q), name
    first, second = (sample(job.problem, "meta_train", 2, job.state.generator)[0] for job in (planned, given))
    assert torch.equal(first.support.x, second.support.x)


@pytest.mark.parametrize("hypergradient", ["auto", "reverse", "first_order"])
def test_the_other_engine_goes_task_by_task_and_is_not_measured(hypergradient, build, monkeypatch):
    monkeypatch.setattr(planning, "fastest_chunk", lambda *_: pytest.fail("nothing is to be measured"))
    job = build("inner.engine=higher", f"inner.hypergradient={hypergradient}")
    assert type(job.problem.hypergradient) is ThroughHigher
    assert job.plan.hypergradient == ("first_order" if hypergradient == "first_order" else "reverse")
    assert not job.plan.compile
    assert job.problem.chunk == MANY_TASKS
    native = build(*QUICK, f"inner.hypergradient={hypergradient}")
    torch.testing.assert_close(
        validation_hypergradients(job).flat, validation_hypergradients(native).flat, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("name", ["mixed", "checkpointing", "truncated", "forward"])
def test_the_other_engine_has_reverse_mode_and_first_order_alone(name, refusal):
    text = refusal("inner.engine=higher", f"inner.hypergradient={name}")
    assert text.startswith(f"inner.hypergradient={name} ")
    assert "inner.engine=higher" in text
    assert "inner.engine=native" in text


def test_the_other_engine_is_not_compiled(refusal):
    text = refusal("inner.engine=higher", "inner.compile=true")
    assert text.startswith("inner.compile=true ")
    assert "inner.engine=higher" in text


def test_reverse_mode_over_many_steps_is_not_compiled(refusal, build):
    limit = planning.LONGEST_COMPILED_REVERSE
    overrides = ("inner.hypergradient=reverse", "inner.compile=true", "inner.task_chunk=2")
    text = refusal(*overrides, f"inner.horizon={limit + 1}")
    assert text.startswith("inner.hypergradient=reverse ")
    assert str(limit + 1) in text
    assert "inner.hypergradient=mixed" in text
    assert build(*overrides, f"inner.horizon={limit}").plan.compile
    left_open = ("inner.hypergradient=reverse", "inner.task_chunk=2", f"inner.horizon={limit + 1}")
    assert not build(*left_open, "outer.iterations=100000000").plan.compile


def test_forward_mode_takes_policies_of_a_few_numbers(refusal, build, monkeypatch):
    monkeypatch.setattr("metaopt.config.build.sample", lambda *_: pytest.fail("no work is to begin"))
    text = refusal("inner.hypergradient=forward", "policy=per_parameter")
    assert text.startswith("inner.hypergradient=forward ")
    assert "granularity" in text


WRONG = [
    ("inner.task_chunk=many", "inner.task_chunk", "'many'"),
    ("inner.task_chunk=0", "inner.task_chunk", "0"),
    ("inner.task_chunk=2.5", "inner.task_chunk", "2.5"),
    ("inner.task_chunk=true", "inner.task_chunk", "True"),
    ("inner.task_chunk=null", "inner.task_chunk", "None"),
    ("inner.task_chunk=[2]", "inner.task_chunk", "[2]"),
    ("inner.compile=maybe", "inner.compile", "'maybe'"),
    ("inner.compile=1", "inner.compile", "1"),
    ("inner.compile=null", "inner.compile", "None"),
    ("inner.dtype=float16", "inner.dtype", "'float16'"),
    ("inner.dtype=64", "inner.dtype", "64"),
    ("inner.window=0", "inner.window", "0"),
    ("inner.window=null", "inner.window", "None"),
    ("inner.stored_steps=0", "inner.stored_steps", "0"),
    ("inner.second_derivative=none", "inner.second_derivative", "'none'"),
    ("inner.hypergradient=backward", "inner.hypergradient", "'backward'"),
]


@pytest.mark.parametrize(("override", "field", "came"), WRONG, ids=[case[0] for case in WRONG])
def test_a_wrong_setting_is_named_with_what_came(override, field, came, tiny):
    with pytest.raises(ConfigError) as caught:
        train_config(tiny(override))
    text = str(caught.value)
    assert text.startswith((f"{field} is ", f"{field}: "))
    assert came in text
    assert "\n" not in text


# Numbers -------------------------------------------------------------------------------------------------------------


def test_double_precision_is_close_to_single_precision(build):
    single, double = (build(*QUICK, f"inner.dtype={dtype}") for dtype in ("float32", "float64"))
    for job, dtype in ((single, torch.float32), (double, torch.float64)):
        assert job.problem.dtype == dtype
        assert all(p.dtype == dtype for p in job.state.policy.parameters())
        assert job.validation.tasks.support.x.dtype == dtype
        assert job.validation.draws.noise["output.bias"].dtype == dtype
    found, expected = validation_hypergradients(single), validation_hypergradients(double)
    assert found.flat.dtype == torch.float32
    assert expected.flat.dtype == torch.float64
    error = (found.flat - expected.flat).norm() / expected.flat.norm()
    assert 0 < error < 1e-4


needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no bfloat16"
)


@needs_bfloat16
@pytest.mark.parametrize("name", ["reverse", "mixed"])
def test_half_precision_is_near_single_precision_and_not_the_same(name, build):
    single, half = (
        build(*QUICK, f"inner.hypergradient={name}", f"inner.dtype={dtype}") for dtype in ("float32", "bfloat16")
    )
    assert half.problem.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in half.state.policy.parameters())
    found, expected = validation_hypergradients(half).flat, validation_hypergradients(single).flat
    assert found.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.9
    assert (found - expected).norm() > 1e-4 * expected.norm()


def test_half_precision_is_refused_where_the_processor_has_none(refusal, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert refusal("inner.dtype=bfloat16").startswith("inner.dtype is bfloat16")


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_the_loss_itself_is_computed_in_single_precision(kind):
    task = TaskSpec(kind, (3,), 2)
    model = mlp(task, [4])
    generator = torch.Generator().manual_seed(0)
    params = {name: torch.randn(shape, generator=generator) for name, shape in model.shapes.items()}
    y = torch.tensor([0, 1, 1]) if kind is Kind.classification else torch.randn(3, 2, generator=generator)
    batch = Batch(torch.randn(3, 3, generator=generator), y)
    half, single = (build_objective(model, task, dtype) for dtype in ("bfloat16", "float32"))
    assert half.loss(params, batch).dtype == torch.float32
    assert half.loss(params, batch) != single.loss(params, batch)
    torch.testing.assert_close(half.loss(params, batch), single.loss(params, batch), rtol=0.05, atol=0.05)
    assert half.scores(params, batch)[0] == half.loss(params, batch)
