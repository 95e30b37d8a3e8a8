import pytest
import torch
from inner_modes import ALL
from inner_problems import conv4_problem, make_problem, mlp_problem, tiny_mlp
from other_device import ELSEWHERE, Mixed, apart, moved

from metaopt.inner.adapt import adapt
from metaopt.inner.compile import Inductor
from metaopt.inner.through_higher import ThroughHigher
from metaopt.policies.baselines import RuleSettings, fixed_learner
from metaopt.policies.settings import PolicySettings, StrengthSettings


class Uncompiled:
    """Functions as they are, called with the steps of compiled ones."""

    workers = 1

    def __call__(self, function):
        return function

    def steps(self, horizon):
        return Inductor(device=ELSEWHERE).steps(horizon)


def assert_elsewhere(*tensors):
    assert {tensor.device for tensor in tensors} == {ELSEWHERE}


def assert_all_elsewhere(found):
    assert_elsewhere(found.flat, found.loss, found.accuracy, found.support_loss)


PROBLEMS = {
    "mlp": lambda: mlp_problem("from_scratch", "global", horizon=3),
    "few_shot": lambda: mlp_problem("few_shot", "tensor", horizon=2),
    "conv4": lambda: conv4_problem("from_scratch", "tensor", "batch", horizon=2),
}


@pytest.fixture(params=PROBLEMS, scope="module")
def problem(request):
    return moved(PROBLEMS[request.param]())


@pytest.fixture(scope="module")
def small():
    return moved(PROBLEMS["mlp"]())


@pytest.mark.parametrize("name", ["reverse", "mixed", "mixed_forward"])
def test_hypergradients_are_computed_on_the_device_of_the_tasks(problem, name):
    with apart(only=True):
        assert_all_elsewhere(problem.hypergradients(ALL[name]()))


@pytest.mark.parametrize("name", ["first_order", "mixed", "checkpointing", "truncated_2", "mixed_none", "forward"])
@pytest.mark.parametrize("chunk", [64, 1])
def test_so_they_are_in_every_way_and_chunk(small, name, chunk):
    with apart(only=True):
        assert_all_elsewhere(small.hypergradients(ALL[name](chunk=chunk)))


@pytest.mark.parametrize("name", ["mixed", "mixed_forward", "forward"])
def test_the_steps_of_compiled_functions_are_on_their_device(small, name):
    compiler = Uncompiled()
    assert_elsewhere(*compiler.steps(3))
    with apart():
        assert_all_elsewhere(small.hypergradients(ALL[name](compiler=compiler)))


@pytest.mark.parametrize("name", ["mixed", "forward"])
def test_functions_are_compiled_for_their_device(small, name, monkeypatch):
    import torch._inductor.config as settings
    from torch._inductor import compile_fx

    seen, threads = [], settings.cpp.threads

    def compile_fx_inner(traced, examples, cpp_wrapper):
        assert not cpp_wrapper
        assert settings.cpp.threads == threads
        assert_elsewhere(*examples)
        seen.extend(traced.buffers())  # a tangent of zeros is one
        return lambda tensors: traced(*tensors)

    monkeypatch.setattr(compile_fx, "compile_fx_inner", compile_fx_inner)
    compiler = Inductor(pytest.fail, device=ELSEWHERE)
    with apart():
        assert_all_elsewhere(small.hypergradients(ALL[name](compiler=compiler)))
    assert bool(seen) == (name == "forward")
    assert {tensor.device for tensor in seen} <= {ELSEWHERE}


@pytest.mark.parametrize("first_order", [False, True])
def test_higher_computes_on_the_device_of_the_tasks(small, first_order):
    with apart(only=True):
        assert_all_elsewhere(small.through(ThroughHigher, first_order=first_order))


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "Adagrad"])
def test_so_it_does_with_the_optimizers_of_torch(optimizer):
    only = optimizer != "Adagrad"  # torch's own, which counts its steps on the CPU
    settings = PolicySettings(lr=StrengthSettings("learned", 0.1, "tensor"), optimizer=optimizer)
    problem = moved(make_problem(settings, tiny_mlp()))
    with apart(only=only):
        assert_all_elsewhere(problem.through(ThroughHigher))


@pytest.mark.parametrize("chunk", [64, 1])
@pytest.mark.parametrize("settings", [None, RuleSettings("sgd", 0.1, 1e-3, 0.9), RuleSettings("adam", 0.1)])
def test_adaptation_is_on_the_device_of_the_tasks(problem, settings, chunk):
    learner = problem.policy if settings is None else fixed_learner(problem.policy.start, settings)
    with apart(only=True):
        found = adapt(learner, problem.objective, problem.tasks, problem.draws, problem.horizon, chunk=chunk)
    assert_elsewhere(found.loss, found.accuracy)


@pytest.mark.parametrize("left_behind", ["tasks", "draws"])
def test_what_is_mixed_is_found(left_behind):
    problem = mlp_problem("from_scratch", "element", horizon=2)
    half = moved(problem)._replace(**{left_behind: getattr(problem, left_behind)})
    with apart(), pytest.raises(Mixed, match="cpu and meta"):
        half.hypergradients(ALL["mixed"]())


def test_what_is_made_on_the_cpu_is_found():
    with apart(only=True), pytest.raises(Mixed, match="makes a tensor on the CPU"):
        torch.zeros(())
