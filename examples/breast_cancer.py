"""A network that nobody tuned, in a scikit-learn pipeline, beside two that people type.

    python examples/breast_cancer.py [policy.safetensors]

Five-fold cross-validation on breast-cancer data, all three on the same folds. ± is half of Student's 95 % interval over
folds, which share most of their training rows, so that it is somewhat too narrow.
"""

import sys
import warnings

from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metaopt.estimators import MetaTunedClassifier
from metaopt.evaluation.statistics import mean_interval


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # MLPClassifier stops at its default of 200 epochs
    policy = sys.argv[1] if len(sys.argv) > 1 else None
    models = {
        "MetaTunedClassifier": MetaTunedClassifier(policy, random_state=0),
        "MLPClassifier": MLPClassifier(random_state=0),
        "LogisticRegression": LogisticRegression(),
    }
    x, y = load_breast_cancer(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    rows = Table(
        "model", "accuracy, %", "log loss", "seconds a fit", title=f"{len(y)} patients, {folds.n_splits} folds"
    )
    for name, model in models.items():
        pipeline = make_pipeline(StandardScaler(), model)
        found = cross_validate(pipeline, x, y, cv=folds, scoring=("accuracy", "neg_log_loss"))
        accuracy, loss = mean_interval(100 * found["test_accuracy"]), mean_interval(-found["test_neg_log_loss"])
        rows.add_row(
            name,
            f"{accuracy.mean:.1f} ± {accuracy.high - accuracy.mean:.1f}",
            f"{loss.mean:.3f} ± {loss.high - loss.mean:.3f}",
            f"{found['fit_time'].mean():.2f}",
        )
    Console().print(rows)


if __name__ == "__main__":
    main()
