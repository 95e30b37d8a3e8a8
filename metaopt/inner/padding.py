"""Tasks of different widths side by side, each trained as it would be alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from metaopt.inner.draws import Draws
from metaopt.types import Batch, TaskBatch


def fit_to_width(tasks: TaskBatch, draws: Draws, input_layer: Sequence[str]) -> tuple[TaskBatch, Draws]:
    """Makes padding vanish from the training of tasks whose absent columns are NaN (see `Batch`).

    Absent columns become 0, so that the weights that meet them neither do anything nor get a gradient. A linear layer
    is initialised in proportion to 1/sqrt(inputs): the noise of the input layer is rescaled from the padded to the
    task's own number of inputs, so that a fresh or scaled initialisation is that of a network of the task's own width.
    Noise that enters the loss is told which columns there are, so that absent ones stay 0.

    Args:
        tasks: flat inputs, [tasks, examples, columns].
        draws: the randomness of their training, standard normal.
        input_layer: names of the tensors of the layer that the inputs go into; the weight, [units, columns], first.

    Returns:
        Both without padding; the arguments stay as they are.
    """
    present = ~torch.isnan(tasks.support.x[:, 0])
    n_tasks, columns = present.shape
    scale = (columns / present.sum(1).clamp(min=1).double()).sqrt()
    noise = dict(draws.noise)
    for name in input_layer:
        tensor = noise[name]
        noise[name] = tensor * scale.to(tensor.dtype).view(n_tasks, *[1] * (tensor.dim() - 1))
    weight = input_layer[0]
    noise[weight] = noise[weight] * present.unsqueeze(1)
    filled = (Batch(torch.where(torch.isnan(batch.x), 0.0, batch.x), batch.y) for batch in tasks)
    loss = draws.loss if draws.loss.bank is None else draws.loss._replace(present=present.to(draws.loss.bank.dtype))
    return TaskBatch(*filled), Draws(noise, draws.order, loss)
