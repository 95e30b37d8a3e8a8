"""Any module in the inner loop: every way to the hypergradient is right, or refused in a line that says what to do."""

import logging
import random
from functools import cache

import pytest
import torch
from inner_modes import EXACT, FIRST_ORDER
from inner_own_modules import FLAT, MODULES, SEQUENCE, Changed, Pair, dense, ids, own_problem, problem_of
from inner_problems import above, central_difference_errors, relative_differences, summed
from torch import nn

from metaopt.errors import ConfigError
from metaopt.inner.adapt import adapt
from metaopt.inner.draws import Draws, take_draws
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.inner.trials import train_trials
from metaopt.policies.policy import Policy
from metaopt.trees import take_tasks

WAYS = {name: EXACT[name] for name in ("mixed", "mixed_forward", "checkpointing_1", "truncated_whole", "forward")}
NO_FORWARD = {"Embedding, padded", "RReLU", "weight_norm"}
PRODUCT = [(module, way) for module in MODULES for way in WAYS]
ON_PUSH = [pair for i, pair in enumerate(PRODUCT) if i % 6 == 0]
slowly = pytest.mark.filterwarnings("ignore:There is a performance drop")


@cache
def shared(name):
    """Problems that no test changes."""
    return problem_of(name)


@cache
def reference(name):
    """Task by task, through the graph of all steps: nothing is computed again, and no vmap takes part."""
    return shared(name).hypergradients(Reverse(chunk=1))


def check_way(module, way):
    problem = shared(module)
    if way == "forward" and module in NO_FORWARD:
        with pytest.raises(ConfigError, match=r"derivatives in forward mode.*choose mixed or checkpointing"):
            problem.hypergradients(WAYS[way]())
        return
    found = problem.hypergradients(WAYS[way]())
    assert not above(relative_differences(found.grads, reference(module).grads), 1e-8)
    torch.testing.assert_close(found.loss, reference(module).loss, rtol=1e-11, atol=1e-13)


@slowly
@pytest.mark.parametrize(("module", "way"), ON_PUSH)
def test_exact_ways_agree_with_reverse_mode_task_by_task(module, way):
    check_way(module, way)


@slowly
@pytest.mark.nightly
@pytest.mark.parametrize(("module", "way"), PRODUCT)
def test_exact_ways_agree_on_every_module(module, way):
    check_way(module, way)


@slowly
@pytest.mark.nightly
@pytest.mark.parametrize("way", FIRST_ORDER)
@pytest.mark.parametrize("module", MODULES)
def test_without_second_derivatives_ways_agree_with_first_order(module, way):
    expected = shared(module).hypergradients(Reverse(first_order=True, chunk=1))
    found = shared(module).hypergradients(FIRST_ORDER[way]())
    assert not above(relative_differences(found.grads, expected.grads), 1e-8)


@slowly
@pytest.mark.parametrize("module", MODULES)
def test_side_by_side_tasks_have_the_hypergradients_that_they_have_alone_and_none_is_zero(module):
    found = shared(module).hypergradients(Reverse())
    assert not above(relative_differences(found.grads, reference(module).grads), 1e-8)
    assert [name for name, grads in found.grads.items() if not grads.any()] == []


def check_central_differences(module, steps):
    grads = summed(shared(module).hypergradients(Mixed()))
    errors = central_difference_errors(shared(module), grads, steps, side_by_side=False)
    assert not above(errors, 1e-6)


@pytest.mark.parametrize("module", ["LayerNorm", "Dropout"])
def test_hypergradients_are_those_of_central_differences(module):
    check_central_differences(module, [1e-3])


@slowly
@pytest.mark.nightly
@pytest.mark.parametrize("module", ["GRU", "BatchNorm", "encoder", "noise", "Embedding, padded"])
def test_hypergradients_of_more_modules_are_those_of_central_differences(module):
    check_central_differences(module, [1e-3, 1e-4, 1e-5])


@slowly
@pytest.mark.parametrize("module", MODULES)
def test_the_module_and_torchs_random_numbers_stay_as_they_are(module):
    problem = problem_of(module)
    own = problem.model.module
    before, modes = {n: t.clone() for n, t in own.state_dict().items()}, [layer.training for layer in own.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    problem.hypergradients(Mixed())
    adapt(problem.policy, problem.objective, problem.tasks, problem.draws, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert [layer.training for layer in own.modules()] == modes
    for name, tensor in own.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in own.modules())


@pytest.mark.parametrize("module", ["GRU", "LayerNorm", "Dropout"])
def test_adaptation_and_trials_train_as_meta_training_does(module):
    _, _, _, objective, tasks, draws, horizon = shared(module)
    policy = shared(module).policy
    end = adapt(policy, objective, tasks, draws, horizon, on="query").loss[:, -1]
    torch.testing.assert_close(end, reference(module).loss, rtol=1e-11, atol=1e-13)
    found = train_trials(
        lambda _own, noise: policy(noise), {"none": torch.zeros(2)}, objective, tasks, draws, horizon
    ).query_loss
    torch.testing.assert_close(found, end, rtol=1e-11, atol=1e-13)


def test_a_task_draws_the_same_whichever_tasks_are_beside_it_and_other_tasks_draw_others():
    problem = shared("Dropout")
    one = slice(1, 2)
    alone = problem._replace(tasks=take_tasks(problem.tasks, one), draws=take_draws(problem.draws, one))
    assert torch.equal(alone.hypergradients(Mixed()).flat[0], problem.hypergradients(Mixed()).flat[1])
    seeds = problem.draws.loss.seed
    assert seeds[0] != seeds[1]
    swapped = problem.draws._replace(loss=problem.draws.loss._replace(seed=seeds.flip(0)))
    assert not torch.equal(problem._replace(draws=swapped).hypergradients(Mixed()).loss, reference("Dropout").loss)


def test_scores_are_those_without_dropout():
    problem = shared("Dropout")
    problem.hypergradients(Mixed())
    params = {name: noise[0] for name, noise in problem.draws.noise.items()}
    batch = take_tasks(problem.tasks, 0).query
    without = own_problem(problem.model.module.eval(), FLAT)
    try:
        expected = without.objective.scores(params, batch)
    finally:
        problem.model.module.train()
    assert torch.equal(problem.objective.scores(params, batch)[0], expected[0])


def test_draws_without_seeds_are_refused_where_a_model_draws():
    problem = shared("Dropout")
    bare = problem._replace(draws=Draws(problem.draws.noise, problem.draws.order))
    with pytest.raises(ConfigError, match="the draws have no seeds"):
        bare.hypergradients(Mixed())


def test_one_line_says_once_that_tasks_are_trained_one_at_a_time(caplog):
    problem = problem_of("GRU")
    with caplog.at_level(logging.INFO, "metaopt"):
        problem.hypergradients(Mixed())
        problem.hypergradients(Reverse())
        adapt(problem.policy, problem.objective, problem.tasks, problem.draws, 3)
    assert len(caplog.records) == 1
    assert "the model (Head): tasks are trained one at a time" in caplog.text


def counting_in_python(module, x):
    module.calls += 1
    return x * module.calls


def from_python(_module, x):
    return x * random.random()


def carrying(module, x):
    module.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
    return x - module.mean


GENERATOR = torch.Generator().manual_seed(0)


def from_a_generator(_module, x):
    return x + torch.rand(6, generator=GENERATOR, dtype=x.dtype)


class NotAFunction(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, grad):
        return grad


REFUSED = {
    "python state": (lambda: Changed(counting_in_python), "another loss for the same inputs.*keep no state outside"),
    "python's random": (lambda: Changed(from_python), "draw with torch only"),
    "generator": (lambda: Changed(from_a_generator), "torch.Generator of its own.*leave out generator="),
    "carried": (lambda: Changed(carrying), "writes its buffer 'mean'.*evaluation mode"),
    "spectral_norm": (
        lambda: dense(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))),
        r"'1\.parametrizations\.weight\.0' \(_SpectralNorm\) writes its buffer.*evaluation mode",
    ),
    "function": (lambda: Changed(lambda _module, x: NotAFunction.apply(x)), "setup_context"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_in_a_line(case):
    make, words = REFUSED[case]
    problem = own_problem(make(), FLAT)
    if case == "function":  # it only matters where a gradient goes through it
        problem = own_problem(nn.Sequential(nn.Linear(6, 6), make()), FLAT)
    with pytest.raises(ConfigError, match=words) as error:
        problem.hypergradients(Mixed())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("module", "shape", "words"),
    [
        (nn.LSTM(6, 3, batch_first=True), SEQUENCE, r"the model \(LSTM\) puts out a tuple"),
        (
            ids(nn.Embedding(7, 4, max_norm=0.5)),
            "ids",
            r"'0' \(Embedding\) writes its own parameter .*max_norm",
        ),
        (dense(nn.Tanh()), "ids", r"'0' \(Linear\) does not take inputs of torch.int64"),
        (nn.Sequential(nn.EmbeddingBag(7, 3)), "ids", "no second derivatives.*first_order"),
    ],
)
def test_modules_of_other_inputs_and_outputs_are_refused_in_a_line(module, shape, words):
    with pytest.raises(ConfigError, match=words):
        own_problem(module, shape).hypergradients(Mixed())


@slowly
@pytest.mark.parametrize("module", ["weight_norm", "own parameter", "Conv1d"])
def test_second_derivatives_that_are_no_derivatives_of_the_gradient_are_reported(caplog, module):
    with caplog.at_level(logging.INFO, "metaopt"):
        problem_of(module).hypergradients(Mixed())
    if module != "weight_norm":
        assert "second derivatives" not in caplog.text
    elif torch.__version__.startswith("2.14"):  # whose second derivative of it is wrong
        assert "the model (Sequential): its second derivatives are not those of differences" in caplog.text


def test_where_second_derivatives_are_missing_first_order_works():
    problem = own_problem(nn.Sequential(nn.EmbeddingBag(7, 3)), "ids")
    assert problem.hypergradients(Mixed("none")).flat.any()


@pytest.mark.parametrize("module", ["BatchNorm", "Dropout", "frozen"])
def test_the_other_engine_refuses_what_it_would_get_wrong(module):
    with pytest.raises(ConfigError, match=r"use inner\.engine=metaopt"):
        shared(module).through(ThroughHigher)


def test_a_mistake_in_a_module_is_its_authors_to_read():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        own_problem(nn.Linear(5, 3), FLAT).hypergradients(Mixed())


class Weighted(Policy):
    """Learns what the loss is multiplied with, and reads it where it should."""

    def __init__(self, *args):
        super().__init__(*args)
        self.weight = nn.Linear(6, 1)

    def values(self):
        return super().values() | {"weight": dict(self.weight.named_parameters())}

    def inner_loss(self, values=None):
        own = (values or self.values())["weight"]
        weigh = lambda x: torch.func.functional_call(self.weight, own, (x,)).sigmoid().mean()  # noqa: E731
        return lambda loss, _noise, _step: lambda params, batch: weigh(batch.x) * loss(params, batch)


class Early(Weighted):
    """Reads it from itself, while it is called."""

    def values(self):
        return Policy.values(self)

    def inner_loss(self, values=None):
        scale = self.weight.bias.exp().sum() + self.weight.weight.sum()
        return lambda loss, _noise, _step: lambda params, batch: scale * loss(params, batch)


class Late(Early):
    """Reads it from itself, at each step."""

    def inner_loss(self, values=None):
        weigh = lambda x: self.weight(x).sigmoid().mean()  # noqa: E731
        return lambda loss, _noise, _step: lambda params, batch: weigh(batch.x) * loss(params, batch)


class Drawing(Policy):
    def inner_loss(self, values=None):
        return lambda loss, _noise, _step: lambda params, batch: torch.rand(()) * loss(params, batch)


@cache
def with_policy(kind):
    return own_problem(dense(nn.Tanh()), FLAT, kind)


@pytest.mark.parametrize("way", EXACT)
@pytest.mark.parametrize("kind", [Weighted, Drawing])
def test_a_loss_of_ones_own_policy_has_its_hypergradient_in_every_exact_mode(kind, way):
    expected = with_policy(kind).hypergradients(Reverse(chunk=1))
    found = with_policy(kind).hypergradients(EXACT[way]())
    assert not above(relative_differences(found.grads, expected.grads), 1e-8)
    assert all(grads.any() for grads in found.grads.values())


@pytest.mark.parametrize("way", FIRST_ORDER)
def test_a_loss_of_ones_own_policy_has_its_first_order_hypergradient(way):
    problem = with_policy(Weighted)
    found = problem.hypergradients(FIRST_ORDER[way]())
    expected = problem.hypergradients(Reverse(first_order=True))
    assert not above(relative_differences(found.grads, expected.grads), 1e-8)
    assert all(grads.any() for grads in found.grads.values())


@pytest.mark.nightly
def test_the_hypergradient_of_such_a_loss_is_that_of_central_differences():
    grads = summed(with_policy(Weighted).hypergradients(Mixed("forward")))
    errors = central_difference_errors(with_policy(Weighted), grads, [1e-3, 1e-4], side_by_side=False)
    assert not above(errors, 1e-6)


@pytest.mark.parametrize("way", ["reverse", *WAYS])
@pytest.mark.parametrize("kind", [Early, Late])
def test_a_policy_that_is_read_where_a_way_does_not_see_it_is_refused(kind, way):
    problem = with_policy(kind)
    if way == "reverse" and kind is Early:
        found = problem.hypergradients(Reverse())
        assert not above(central_difference_errors(problem, summed(found), [1e-3], side_by_side=False), 1e-6)
        return
    for _ in range(2):  # what is known of a policy must not make the second call pass
        with pytest.raises(ConfigError, match=f"{kind.__name__} reads its parameter 'weight.*let values.. return it"):
            problem.hypergradients(Reverse() if way == "reverse" else WAYS[way]())


def test_ids_reach_a_module_as_whole_numbers():
    problem = shared("Embedding")
    assert problem.tasks.support.x.dtype == torch.int64
    assert isinstance(problem.model.module[0], nn.Embedding)
    assert not isinstance(problem.model.module, Pair)
