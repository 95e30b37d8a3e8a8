"""A learned policy as the optimizer of a LightningModule (pip install pytorch-lightning).

    python examples/with_lightning.py [policy.safetensors]

Lightning hands optimizers a closure that returns the loss, so that adaptive policies work as they are.
"""

import logging
import sys
import warnings

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import metaopt

EPOCHS = 30


class Classifier(pl.LightningModule):
    """A small network, trained by a policy."""

    def __init__(self, policy: metaopt.LoadedPolicy, steps: int) -> None:
        super().__init__()
        self.policy, self.steps = policy, steps
        self.network = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
        policy.init(self.network)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """The loss of a minibatch."""
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def test_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Logs the accuracy."""
        self.log("accuracy", (self.network(batch[0]).argmax(-1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The policy's rule; it is told how long training is."""
        return self.policy.optimizer(self.network, steps=self.steps)


def main() -> None:
    warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice on workers and logging
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    policy = metaopt.load_policy(sys.argv[1] if len(sys.argv) > 1 else "tabular_classification")
    pl.seed_everything(0, verbose=False)
    x, y = load_wine(return_X_y=True)
    split = train_test_split(scale(x), y, stratify=y, random_state=0)
    x, x_test, y, y_test = (torch.tensor(part) for part in split)
    batches = DataLoader(TensorDataset(x.float(), y), batch_size=32, shuffle=True)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", **quiet)
    model = Classifier(policy, EPOCHS * len(batches))
    trainer.fit(model, batches)
    trainer.test(model, DataLoader(TensorDataset(x_test.float(), y_test), batch_size=len(y_test)), verbose=False)
    accuracy = float(trainer.callback_metrics["accuracy"])
    print(f"{policy!r}: accuracy {100 * accuracy:.1f} % on {len(y_test)} wines, after {EPOCHS} epochs on {len(y)}")


if __name__ == "__main__":
    main()
