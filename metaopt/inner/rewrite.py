"""What the compiler does not see in a traced step: products that are only ever read transposed.

Derivatives by weights come as xᵀδ and are read as (xᵀδ)ᵀ, beside weights that lie the other way. As δᵀx they are the
same numbers in the order in which they are read; reading them transposed can cost more than the product itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten
SAME_IF_SHAPE_IS = (aten.view.default, aten.expand.default, aten._unsafe_view.default)
PRODUCTS = (aten.bmm.default, aten.mm.default)


def simplify(graph: Graph) -> None:
    """Drops views and pairs of views that change nothing, and turns round products that are only read transposed.

    Args:
        graph: changed in place; of ATen operations without side effects, each with its traced value in `meta["val"]`.
    """
    for node in list(graph.nodes):
        if node.target in SAME_IF_SHAPE_IS and _shape(node) == _shape(node.args[0]):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        if _is_transpose(node) and _is_transpose(node.args[0]):
            node.replace_all_uses_with(node.args[0].args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if node.target in PRODUCTS and node.users and all(_is_transpose(user) for user in node.users):
            _turn_round(graph, node)
    graph.eliminate_dead_code()
    graph.lint()


def _turn_round(graph: Graph, product: Node) -> None:
    left, right = product.args
    with graph.inserting_before(product):
        turned = graph.call_function(product.target, (_transposed(graph, right), _transposed(graph, left)))  # type: ignore[arg-type]
    first = next(iter(product.users))
    turned.meta["val"] = first.meta["val"].contiguous()
    for user in list(product.users):
        user.replace_all_uses_with(turned)
        graph.erase_node(user)
    graph.erase_node(product)


def _transposed(graph: Graph, node: Any) -> Node:
    """The last two dimensions exchanged, of a node that may itself be such an exchange."""
    if _is_transpose(node):
        return node.args[0]
    order = [*range(len(_shape(node)) - 2), -1, -2]
    order = [dim % len(order) for dim in order]
    transposed = graph.call_function(aten.permute.default, (node, order))
    transposed.meta["val"] = node.meta["val"].permute(order)
    return transposed


def _is_transpose(node: Any) -> bool:
    if not isinstance(node, Node):
        return False
    if node.target is aten.t.default:
        return len(_shape(node)) == 2
    n_dims = len(_shape(node))
    last = (n_dims - 2, n_dims - 1)
    if node.target is aten.transpose.int:
        return sorted(dim % n_dims for dim in node.args[1:]) == list(last)  # type: ignore[operator]
    if node.target is aten.permute.default:
        order = [dim % n_dims for dim in node.args[1]]  # type: ignore[union-attr]
        return order == [*range(n_dims - 2), n_dims - 1, n_dims - 2]
    return False


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()
