"""A learned policy as the optimizer of an ordinary training loop, beside Adam as people type it.

    python examples/plain_loop.py [policy.safetensors]

Handwritten digits, 300 to train on; nothing is tuned for them. The policy has never seen images: it was meta-trained on
tables, and fits this network, too, because it knows tensors by the roles of their layers.
"""

import sys

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import metaopt

STEPS = 200


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: torch.Tensor, x: torch.Tensor, y: torch.Tensor):
    for rows in batches:

        def closure(rows: torch.Tensor = rows) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            return loss

        optimizer.step(closure)


def main() -> None:
    policy = metaopt.load_policy(sys.argv[1] if len(sys.argv) > 1 else "tabular_classification")
    digits = load_digits()
    split = train_test_split(digits.data / 16, digits.target, train_size=300, stratify=digits.target, random_state=0)
    x, x_test, y, y_test = (torch.tensor(part) for part in split)
    x, x_test = x.float(), x_test.float()
    print(f"{policy!r}, and Adam(1e-3): {STEPS} steps on {len(x)} digits, tested on {len(x_test)}")
    for name in ("policy", "adam"):
        scores = []
        for seed in range(5):
            torch.manual_seed(seed)
            model = network()
            if name == "policy":
                policy.init(model)
                optimizer = policy.optimizer(model, steps=STEPS)
                batches = policy.minibatches(len(x), STEPS)
            else:
                optimizer = torch.optim.Adam(model.parameters())
                batches = torch.stack([torch.randperm(len(x))[: policy.batch_size] for _ in range(STEPS)])
            train(model, optimizer, batches, x, y)
            with torch.no_grad():
                logits = model(x_test)
            scores.append((F.cross_entropy(logits, y_test).item(), (logits.argmax(-1) == y_test).float().mean().item()))
        loss, accuracy = (sum(part) / len(scores) for part in zip(*scores, strict=True))
        print(f"{name:8s} test loss {loss:.3f}, accuracy {100 * accuracy:.1f} % (means of {len(scores)} seeds)")


if __name__ == "__main__":
    main()
