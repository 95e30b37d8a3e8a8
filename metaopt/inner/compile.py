"""Making functions of tensors fast: traced once for each shape, and compiled by the backend of `torch.compile`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, Protocol

import torch
from torch import Tensor

from metaopt.inner.compile_cache import sound_cache
from metaopt.inner.rewrite import simplify
from metaopt.types import CPU


class Compiler(Protocol):
    """Takes a pure function of tensors (and a step) and returns one that computes the same.

    Attributes:
        workers: threads that may call the returned functions at once, each for tasks of its own.
    """

    workers: int

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """See the class."""
        ...

    def steps(self, horizon: int) -> list[Any]:
        """The numbers of the steps, in the form that the functions want them."""
        ...


class Eager:
    """Leaves functions as they are. These put a task's parameters into a module, of which there is only one."""

    workers = 1

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function."""
        return function

    def steps(self, horizon: int) -> list[int]:
        """Plain ints."""
        return list(range(horizon))


class Inductor:
    """Compiles with inductor. A step's number is a tensor, so that one compiled step serves all of them.

    Functions are traced with `make_fx`, which goes through vmap, grad and jvp where `torch.compile`'s own tracer does
    not always; compiled code is kept on disk by inductor, and found again by later runs with the same shapes. Where
    anything fails, one warning says so, and the functions are called as they are.

    Args:
        warn: is given the one line.
        workers: see `Compiler`; compiled functions know no module any more.
        device: of all tensors that the functions will be called with.
    """

    def __init__(
        self, warn: Callable[[str], None] = warnings.warn, workers: int = 1, device: torch.device = CPU
    ) -> None:
        self.workers = workers
        self._warn = warn
        self._device = device
        self._works = True
        self._steps: list[Tensor] = []

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which is compiled when it is first called with arguments of some shape."""
        return _Compiled(function, self._compile)

    def steps(self, horizon: int) -> list[Tensor]:
        """Scalar int64 tensors on the device."""
        while len(self._steps) < horizon:
            self._steps.append(torch.tensor(len(self._steps), device=self._device))
        return self._steps[:horizon]

    def _compile(self, function: Callable[..., Any], tensors: list[Tensor]) -> Callable[..., Any] | None:
        """A function of a list of such tensors, or None where compiling fails."""
        if not self._works:
            return None
        try:
            with sound_cache(self._warn):
                return _inductor(function, tensors)
        except Exception as error:  # a missing compiler, an operation without a lowering, an unwritable cache, …
            self._works = False
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            self._warn(f"compilation failed ({reason}); going on without it. inner.compile=false leaves it out")
            return None


_ONE_AT_A_TIME = RLock()
"""Functions that are not compiled share a module, and tracing changes what torch does in other threads, too."""


class _Compiled:
    """One function, with its compiled form for each combination of shapes."""

    def __init__(
        self,
        function: Callable[..., Any],
        compile_: Callable[[Callable[..., Any], list[Tensor]], Callable[..., Any] | None],
    ) -> None:
        self._function = function
        self._compile = compile_
        self._ready: dict[Any, Callable[..., Any] | None] = {}

    def __call__(self, *arguments: Tensor | None) -> Any:
        key = tuple(None if a is None else (a.shape, a.dtype) for a in arguments)
        tensors = [a if a.is_contiguous() else a.contiguous() for a in arguments if a is not None]
        if key not in self._ready:
            with _ONE_AT_A_TIME:
                if key not in self._ready:  # another thread may have compiled it in the meantime
                    given = [a is not None for a in arguments]
                    self._ready[key] = self._compile(_of_list(self._function, given), tensors)
        ready = self._ready[key]
        if ready is None:
            with _ONE_AT_A_TIME:
                return self._function(*arguments)
        results = ready(tensors)
        return results[0] if len(results) == 1 else tuple(results)


def _of_list(function: Callable[..., Any], given: list[bool]) -> Callable[..., list[Tensor]]:
    """The function of those of its arguments that are not None, returning a list."""

    def of_list(*tensors: Tensor) -> list[Tensor]:
        rest = iter(tensors)
        results = function(*(next(rest) if is_given else None for is_given in given))
        return [results] if isinstance(results, Tensor) else list(results)

    return of_list


def _inductor(function: Callable[..., list[Tensor]], tensors: list[Tensor]) -> Callable[[list[Tensor]], list[Tensor]]:
    # Imported here, because they take seconds and are needed by few runs.
    import torch._inductor.config as settings  # noqa: PLC0415
    from torch._functorch.compile_utils import fx_graph_cse  # noqa: PLC0415
    from torch._guards import TracingContext, tracing  # noqa: PLC0415
    from torch._inductor.compile_fx import compile_fx_inner  # noqa: PLC0415
    from torch._inductor.decomposition import select_decomp_table  # noqa: PLC0415
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415
    from torch.fx.experimental.symbolic_shapes import ShapeEnv  # noqa: PLC0415

    # The number of threads is compiled in, so it must be part of what finds the code on disk again.
    device = tensors[0].device
    on_cpu = device.type == "cpu"
    # Models say themselves how they want their images to lie in memory.
    options = {"fx_graph_cache": True, "layout_optimization": False} | (
        {"cpp.threads": torch.get_num_threads()} if on_cpu else {}
    )
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)  # constants are captured as they are
    # Tracing finds the mode in the context; without, it makes one for each tensor that it meets, which takes longest.
    with _quiet(), torch.no_grad(), settings.patch(options), tracing(TracingContext(mode)):
        traced: Any = make_fx(function, decomposition_table=select_decomp_table())(*tensors)
        # A derivative computes again what the function beneath it has computed.
        traced.graph = fx_graph_cse(traced.graph)
        simplify(traced.graph)
        for name, captured in list(traced.named_buffers()):
            if captured._is_zerotensor():  # a tangent of zeros without memory, which the compiler cannot handle
                setattr(traced, name, torch.zeros(captured.shape, dtype=captured.dtype, device=device))
        traced.recompile()
        examples = [mode.from_tensor(tensor, static_shapes=True) for tensor in tensors]
        compiled: Any = compile_fx_inner(traced, examples, cpp_wrapper=on_cpu)
        compiled(list(tensors))
    return compiled


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the compiler's own remarks on its dependencies and its cache; some of these are tracebacks."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
