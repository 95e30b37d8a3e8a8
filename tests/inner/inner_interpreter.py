"""What stands in for compiled code, whose generation takes seconds."""

import torch


class Interpreter(torch.fx.Interpreter):
    """Runs a traced graph as inductor does, which does not mind how the tensors between the operations lie."""

    def call_function(self, target, args, kwargs):
        target = torch.ops.aten.reshape.default if target is torch.ops.aten.view.default else target
        return super().call_function(target, args, kwargs)
