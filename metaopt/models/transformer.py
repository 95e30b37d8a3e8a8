"""A small transformer for sequences, tables, images and token ids."""

from __future__ import annotations

from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.models.attention import Block, MeanOfPresent, absent_tokens
from metaopt.models.layers import LayerNorm, Linear
from metaopt.models.mixed_activation import ACTIVATIONS
from metaopt.models.mlp import Activation
from metaopt.models.model import Model, model_from
from metaopt.models.tokens import Columns, Flat, Patches, Places, Rows, Words
from metaopt.types import TaskSpec


def transformer(
    task: TaskSpec,
    width: int = 32,
    heads: int = 4,
    depth: int = 2,
    mlp_ratio: float = 2.0,
    activation: Activation = "gelu",
    patch: int | None = None,
    positions: bool = True,
) -> Model:
    """A pre-norm transformer encoder, the mean over its tokens, and one linear layer.

    What a token is depends on the inputs' shape:

    - flat inputs, (columns,): a token for each column, its value times a vector of its own plus another, as in
      FT-Transformer (Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021);
    - flat inputs of a family with a vocabulary, (length,): a token for each id, with a learned vector for each word;
    - sequences, (length, features): a token for each position;
    - images, (channels, height, width): a token for each row, or for each square of `patch` pixels a side, as in the
      vision transformer (Dosovitskiy et al., "An Image is Worth 16×16 Words", 2021).

    A token that is NaN throughout is not there: none looks at it, and it is left out of the mean. So sequences of
    different lengths, and tables of different widths (see `Batch`), are filled up with NaN.

    Args:
        task: says the sizes of inputs and outputs.
        width: numbers of a token; a multiple of `heads`.
        heads: attention heads.
        depth: transformer blocks.
        mlp_ratio: hidden units between a block's two linear layers, in widths.
        activation: nonlinearity between them.
        patch: side of an image's patches in pixels, which divides both of its sides; None: a token for each row.
        positions: add a learned vector at each position; without them the order of the tokens does not count (a bag).
            Columns have vectors of their own anyway.

    Raises:
        ConfigError: the inputs have another shape, or the settings do not fit them or each other.
    """
    if width % heads:
        raise ConfigError(f"model.width is {width}; it must be a multiple of model.heads, which is {heads}")
    tokens = _tokens(task, width, patch, positions)
    hidden = max(1, round(mlp_ratio * width))
    blocks = [Block(width, heads, hidden, ACTIVATIONS[activation]()) for _ in range(depth)]
    spec = {
        "name": "transformer",
        "width": width,
        "heads": heads,
        "depth": depth,
        "mlp_ratio": mlp_ratio,
        "activation": activation,
        "patch": patch,
        "positions": positions,
    }
    return model_from(Transformer(*tokens, blocks, width, task.output_size), spec, masks=True, plain=True)


class Transformer(nn.Module):
    """Inputs to outputs.

    Args:
        cut: inputs [batch, *input] to tokens [batch, length, size].
        embedding: tokens to vectors [batch, length, width].
        blocks: the encoder.
        width: of a vector.
        outputs: number of outputs.
    """

    def __init__(self, cut: nn.Module, embedding: nn.Module, blocks: list[Block], width: int, outputs: int) -> None:
        super().__init__()
        self.cut = cut
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = LayerNorm(width)
        self.pool = MeanOfPresent()
        self.output = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, outputs]."""
        tokens, absent = absent_tokens(self.cut(x))
        vectors = self.embedding(tokens)
        for block in self.blocks:
            vectors = block(vectors, absent)
        return self.output(self.pool(self.norm(vectors), absent))


def _tokens(task: TaskSpec, width: int, patch: int | None, positions: bool) -> tuple[nn.Module, nn.Module]:
    """What cuts inputs of the task's shape into tokens, and what makes vectors of them."""
    shape = task.input_shape
    if patch is not None and len(shape) != 3:
        raise ConfigError(
            f"model.patch is {patch}, which is for images, but the tasks have inputs of shape {shape}; leave it null"
        )
    match shape:
        case (length,) if task.vocabulary is not None:
            return Flat(), Words(task.vocabulary, width, length if positions else None)
        case (columns,):
            return Flat(), Columns(columns, width)
        case (length, size):
            cut = nn.Identity()
        case (channels, length, size) if patch is None:
            cut, size = Rows(), channels * size
        case (channels, rows, columns) if patch is not None:
            if rows % patch or columns % patch:
                raise ConfigError(
                    f"model.patch is {patch}; it must divide both sides of the tasks' images of {rows} by {columns} "
                    "pixels, or be null for a token for each row"
                )
            cut, length, size = Patches(patch), rows * columns // patch**2, channels * patch**2
        case _:
            raise ConfigError(
                f"model=transformer takes inputs of shape (columns,), (length, features) or (channels, height, width), "
                f"but the tasks have inputs of shape {shape}; use model=mlp"
            )
    return cut, Places(length, size, width) if positions else Linear(size, width)
