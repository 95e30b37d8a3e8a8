"""What a policy has learned, in words and numbers, and what it does while it trains.

python examples/inspect_policy.py [policy.safetensors]
"""

import sys

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn

import metaopt
from metaopt.models.roles import roles_of
from metaopt.report.words import reading_in_words

STEPS = 100


def main() -> None:
    console = Console()
    policy = metaopt.load_policy(sys.argv[1] if len(sys.argv) > 1 else "tabular_classification")
    card = policy.card
    console.print(f"[bold]{policy.name}[/bold], learned on {card.tasks} with {card.model}, {policy.horizon} steps")
    console.print(f"learned: {', '.join(sorted(card.policy.learned()))}")

    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(scale(x)).float(), torch.tensor(y)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    fit = policy.fit(model)
    console.print(f"on this network: {fit.note or 'matched by name and shape'}")
    for sentence in reading_in_words(policy.reading(model), roles_of(model)):
        console.print(f"- {sentence}")

    policy.init(model)
    optimizer = policy.optimizer(model, steps=STEPS)
    rows = Table("step", "loss", *(f"{name}\nrate, L2 ×" for name, _ in model.named_parameters() if "weight" in name))
    for step, batch in enumerate(policy.minibatches(len(y), STEPS)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step(loss=loss)
        if step % 10 == 0 or step == STEPS - 1:
            found = getattr(optimizer, "multipliers", dict)()
            cells = [
                ", ".join(f"{of[name]:.2f}" for of in found.values()) or "1"
                for name, _ in model.named_parameters()
                if "weight" in name
            ]
            rows.add_row(str(step), f"{loss.item():.3f}", *cells)
    console.print("What it multiplies learned rates and L2 strengths with, as training goes:")
    console.print(rows)


if __name__ == "__main__":
    main()
