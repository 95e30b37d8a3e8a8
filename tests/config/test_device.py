from inspect import signature
from types import SimpleNamespace

import pytest
import torch

from metaopt.config.build import build_job
from metaopt.config.device import (
    check_device,
    choose_device,
    has_bfloat16,
    local_place,
    memory_of,
    on_gpu,
    use_device,
    wait_for,
)
from metaopt.config.engine import build_hypergradient, check_engine
from metaopt.config.load import train_config
from metaopt.config.schema import InnerConfig
from metaopt.errors import ConfigError
from metaopt.inner.compile import Eager, Inductor
from metaopt.inner.plan import Plan
from metaopt.models.mlp import mlp
from metaopt.policies.settings import PolicySettings
from metaopt.types import CPU, Kind, TaskSpec

CUDA = torch.device("cuda", 1)
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture
def started(monkeypatch):
    """The function that makes this process seem to be one that torchrun started."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def start(*values):
        for name, value in zip(VARIABLES, values, strict=False):
            monkeypatch.setenv(name, value)

    return start


@pytest.fixture
def gpus(started, monkeypatch):
    """A machine with two GPUs; what is asked of them, in order."""
    asked = []
    properties = SimpleNamespace(total_memory=123)
    for name, found in {"is_available": True, "device_count": 2, "get_device_name": "Big", "synchronize": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, n=name, f=found: asked.append((n, *args)) or f)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: asked.append(device) or properties)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(("set_device", device)))
    settings = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in settings]
    for each in settings:
        each.allow_tf32 = True
    yield asked
    for each, value in zip(settings, before, strict=True):
        each.allow_tf32 = value


def float32_is_float32():
    return not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32


# Words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["cpu", "auto", "cuda", "cuda:0", "cuda:12"])
def test_words_that_name_a_device_are_taken(word):
    check_device(word)


@pytest.mark.parametrize("word", ["gpu", "CPU", "", "cpu:0", "auto:1", "cuda:", "cuda:-1", "cuda:x", "cuda:0\n", "0"])
def test_others_are_not(word):
    with pytest.raises(ConfigError, match="choose one of cpu, auto, cuda, cuda:N"):
        check_device(word)


# Which device --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "gpus", "expected"),
    [
        ("cpu", 0, "cpu"),
        ("cpu", 4, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda:0"),
        ("auto", 4, "cuda:0"),
        ("cuda", 4, "cuda:0"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:3", 4, "cuda:3"),
    ],
)
def test_a_single_process_takes_the_gpu_that_is_named_or_the_first(setting, gpus, expected):
    assert choose_device(setting, gpus) == torch.device(expected)


@pytest.mark.parametrize("setting", ["cuda", "auto"])
def test_each_process_takes_a_gpu_of_its_own(setting):
    assert [choose_device(setting, 3, rank, 3) for rank in range(3)] == [torch.device("cuda", i) for i in range(3)]
    assert choose_device(setting, 4, 1, 2) == CUDA


def test_processes_on_the_cpu_need_no_gpu():
    for setting in ("cpu", "auto"):
        assert choose_device(setting, 0, 3, 4) == CPU
    assert choose_device("cpu", 1, 3, 4) == CPU


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cuda", 0), "device is 'cuda', but torch finds no GPU here; use device=cpu"),
        (("cuda:0", 0), "device is 'cuda:0', but torch finds no GPU here; use device=cpu"),
        (("cuda:2", 2), "device is 'cuda:2', but the GPUs that torch finds here are: cuda:0, cuda:1; choose one"),
        (("cuda:1", 2, 0, 2), "device is 'cuda:1', but 2 processes run on this machine.*use device=cuda"),
        (("cuda", 2, 0, 4), "device is 'cuda', but 4 processes .* has 2 GPUs; start torchrun with --nproc-per-node=2"),
        (("auto", 1, 0, 2), "device is 'auto', but 2 processes .* has 1 GPU; start torchrun with --nproc-per-node=1"),
    ],
)
def test_what_cannot_be_had_is_refused_with_a_remedy(arguments, words):
    with pytest.raises(ConfigError, match=words) as caught:
        choose_device(*arguments)
    assert "\n" not in str(caught.value)


def test_all_processes_of_a_machine_with_too_few_gpus_refuse_alike():
    for rank in range(4):
        with pytest.raises(ConfigError, match="4 processes"):
            choose_device("cuda", 2, rank, 4)


# Under torchrun ------------------------------------------------------------------------------------------------------


def test_without_torchrun_a_process_is_the_only_one_of_its_machine(started):
    assert local_place() == (0, 1)
    started("0", "1", "3", "4")  # torchrun with one process; or what another launcher left
    assert local_place() == (0, 1)


def test_the_local_rank_is_that_of_torchrun(started):
    started("5", "8", "1", "4")
    assert local_place() == (1, 4)


@pytest.mark.parametrize("local", [(), ("1",), ("x", "2"), ("2", "2"), ("-1", "2"), ("0", "0")])
def test_half_an_environment_is_refused(local, started):
    started("1", "2", *local)
    with pytest.raises(ConfigError, match=r"LOCAL_RANK is .* LOCAL_WORLD_SIZE is .* use device=cpu"):
        local_place()


def test_the_cpu_needs_no_such_environment(started):
    started("1", "2")
    assert use_device("cpu") == CPU


# This process ---------------------------------------------------------------------------------------------------------


def test_the_cpu_is_used_without_a_look_at_gpus(gpus):
    assert use_device("cpu") == CPU
    assert not gpus
    assert torch.backends.cuda.matmul.allow_tf32


def test_a_gpu_is_made_the_process_s_own_and_computes_float32_in_float32(gpus, started):
    started("1", "2", "1", "2")
    assert use_device("cuda") == CUDA
    assert ("set_device", CUDA) in gpus
    assert float32_is_float32()


def test_auto_is_the_cpu_where_torch_finds_no_gpu(gpus, started, monkeypatch):
    started("1", "2")  # not by torchrun, which only GPUs need
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert use_device("auto") == CPU
    assert not gpus
    with pytest.raises(ConfigError, match="no GPU"):
        use_device("cuda:1")


def test_what_is_asked_is_asked_of_the_device(gpus, monkeypatch):
    assert memory_of(CPU) is None
    wait_for(CPU)
    assert on_gpu(CPU) == ""
    assert not gpus
    assert memory_of(CUDA) == 123
    wait_for(CUDA)
    assert on_gpu(CUDA) == ", on cuda:1 (Big)"
    assert gpus == [CUDA, ("synchronize", CUDA), ("get_device_name", CUDA)]


@pytest.mark.parametrize(("capability", "works"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_is_asked_of_the_device(capability, works, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: {CUDA: capability}[device])
    assert has_bfloat16(CUDA) == works
    inner = InnerConfig(dtype="bfloat16")
    if works:
        check_engine(PolicySettings(), inner, CUDA)
    else:
        with pytest.raises(ConfigError, match="this GPU does not have; use float32"):
            check_engine(PolicySettings(), inner, CUDA)


def test_what_is_compiled_is_compiled_for_the_device(monkeypatch):
    seen = []

    def made(*given, **options):
        seen.append(signature(Inductor).bind(*given, **options).arguments["device"])
        return Eager()

    monkeypatch.setattr("metaopt.config.engine.Inductor", made)
    model, plan = mlp(TaskSpec(Kind.regression, (1,), 1), [2]), Plan("mixed", 1, 1, True, "")
    build_hypergradient(plan, InnerConfig(), model, TaskSpec(Kind.regression, (1,), 1), print, CUDA)
    assert seen == [CUDA]


def test_a_plan_goes_by_the_memory_of_the_device(tiny, monkeypatch):
    plans = []
    for memory in (None, 2**40, 2**12):
        monkeypatch.setattr("metaopt.config.engine.memory_of", {CPU: memory}.__getitem__)
        plans.append(build_job(train_config(tiny("inner.horizon=9", "inner.compile=true"))).plan.hypergradient)
    assert plans == ["mixed", "mixed", "checkpointing"]


def test_measuring_waits_for_the_device(composed, monkeypatch):
    waited = []
    monkeypatch.setattr("metaopt.config.engine.wait_for", waited.append)
    small = ("model=conv4", "model.channels=2", "outer.meta_batch=2", "outer.validation_tasks=2", "inner.horizon=1")
    build_job(train_config(composed(*small)))
    assert set(waited) == {CPU}
