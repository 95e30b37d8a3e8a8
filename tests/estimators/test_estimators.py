import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from estimator_helpers import BY_ELEMENT, INITIALISED, TASK, learned, write_policy
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from metaopt.errors import PolicyFileError, TrainingError
from metaopt.estimators import MetaTunedClassifier, MetaTunedRegressor, base
from metaopt.estimators.training import Trained, train
from metaopt.models.conv4 import conv4
from metaopt.models.linear import linear
from metaopt.policies.settings import PolicySettings
from metaopt.types import Kind, TaskSpec


@pytest.fixture
def classifier(adaptive):
    return MetaTunedClassifier(adaptive, random_state=0)


@pytest.fixture
def mixed(table):
    """A frame of which a category and a number with gaps say the class."""
    rng = np.random.default_rng(1)
    town = rng.choice(["Rome", "Oslo", "Bonn"], 60)
    age = rng.normal(size=60)
    y = ((town == "Rome") | (age > 1)).astype(int)
    age[::7] = np.nan
    return pd.DataFrame({"town": town, "age": age, "noise": rng.normal(size=60)}), y


def test_it_learns_what_cancer_looks_like(adaptive):
    x, y = load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, random_state=0)
    assert MetaTunedClassifier(adaptive, random_state=0).fit(train_x, train_y).score(test_x, test_y) > 0.93


def test_it_learns_how_a_disease_goes_on_in_the_targets_own_units(adam):
    x, y = load_diabetes(return_X_y=True)
    model = MetaTunedRegressor(adam, random_state=0, n_networks=5, hidden=(), steps=60).fit(x[:300], y[:300])
    assert model.score(x[300:], y[300:]) > 0.4
    scaled = clone(model).fit(x[:300], 1000 * y[:300] - 7)
    np.testing.assert_allclose(scaled.predict(x), 1000 * model.predict(x) - 7, rtol=1e-3)


def test_several_targets_and_targets_that_are_all_equal(adam):
    x = np.random.default_rng(0).normal(size=(80, 3))
    y = np.column_stack([x[:, 0], np.full(80, 5.0), 100 * x[:, 1]])
    model = MetaTunedRegressor(adam, random_state=0, steps=100).fit(x, y)
    assert model.predict(x).shape == (80, 3)
    np.testing.assert_allclose(model.predict(x)[:, 1], 5.0, atol=0.3)
    assert np.corrcoef(model.predict(x)[:, 2], y[:, 2])[0, 1] > 0.9
    assert model.fit(x, y[:, :1]).predict(x).shape == (80, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, bool])
def test_tables_and_targets_of_other_types(adam, table, dtype):
    x, y = (10 * part for part in (table[0], table[0][:, 0]))
    model = MetaTunedRegressor(adam, random_state=0).fit(x.astype(dtype), y.astype(dtype))
    by_double = clone(model).fit(x.astype(dtype).astype(float), y.astype(dtype).astype(float))
    np.testing.assert_array_equal(model.predict(x.astype(dtype)), by_double.predict(x.astype(dtype).astype(float)))


def test_fitted_attributes(classifier, table):
    x, y = table
    model = classifier.set_params(n_networks=2, hidden=(9,)).fit(pd.DataFrame(x, columns=list("abcd")), y)
    assert model.classes_.tolist() == ["one", "three", "two"]
    assert model.n_features_in_ == 4
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.n_iter_ == 30
    assert model.loss_curve_.shape == (30,)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert "meta-trained on mlp(activation=relu, widths=[16, 16])" in model.policy_note_
    assert model._weights["hidden0.weight"].shape == (2, 9, 4)
    assert set(model.predict(pd.DataFrame(x, columns=list("abcd")))) <= {"one", "three", "two"}


def test_the_same_seed_makes_the_same_classifier_and_no_other_does(classifier, table):
    first, again = (clone(classifier).fit(*table).predict_proba(table[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = clone(classifier).set_params(random_state=1).fit(*table).predict_proba(table[0])
    assert not np.allclose(first, other, atol=1e-3)
    states = [np.random.RandomState(5) for _ in range(2)]
    by_state = [
        clone(classifier).set_params(random_state=state).fit(*table).predict_proba(table[0]) for state in states
    ]
    np.testing.assert_array_equal(*by_state)


def test_no_global_random_state_is_touched(classifier, table):
    of_torch, of_numpy = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    classifier.fit(*table).predict(table[0])
    assert torch.equal(torch.random.get_rng_state(), of_torch)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), of_numpy, strict=True))  # noqa: NPY002


def test_probabilities_are_the_mean_of_the_networks(classifier, table):
    x, y = table
    model = classifier.set_params(n_networks=3).fit(x, y)
    expected = np.zeros((len(x), 3))
    inputs = (x - x.mean(0)) / x.std(0)
    for i in range(3):
        w = {name: array[i].astype(np.float64) for name, array in model._weights.items()}
        hidden = np.maximum(inputs @ w["hidden0.weight"].T + w["hidden0.bias"], 0)
        hidden = np.maximum(hidden @ w["hidden1.weight"].T + w["hidden1.bias"], 0)
        odds = np.exp(hidden @ w["output.weight"].T + w["output.bias"])
        expected += odds / odds.sum(1, keepdims=True) / 3
    np.testing.assert_allclose(model.predict_proba(x), expected, rtol=1e-4, atol=1e-6)
    assert (model.predict(x) == model.classes_[expected.argmax(1)]).all()


def test_one_network_is_the_first_of_three(classifier, table):
    one = clone(classifier).fit(*table)
    three = clone(classifier).set_params(n_networks=3).fit(*table)
    for name, array in one._weights.items():
        np.testing.assert_allclose(three._weights[name][0], array[0], rtol=1e-4, atol=1e-5)


def test_a_prediction_does_not_depend_on_its_batch(classifier, table, monkeypatch):
    x, y = table
    model = classifier.fit(x, y)
    whole = model.predict_proba(x)
    np.testing.assert_allclose(np.vstack([model.predict_proba(x[[i]]) for i in range(9)]), whole[:9], atol=1e-13)
    monkeypatch.setattr("metaopt.estimators.network.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(model.predict_proba(x), whole, atol=1e-13)


def test_pickled_and_memory_mapped_it_predicts_the_same(classifier, mixed, tmp_path):
    x, y = mixed
    model = classifier.fit(x, y)
    expected = model.predict_proba(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), expected)
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict_proba(x), expected)


def test_a_frame_with_texts_gaps_and_unknown_categories(classifier, mixed):
    x, y = mixed
    model = classifier.set_params(steps=60).fit(x, y)
    assert model.score(x, y) > 0.85
    unknown = x.assign(town="Lima", age=np.nan)
    assert np.isfinite(model.predict_proba(unknown)).all()
    as_objects = clone(model).fit(x.to_numpy(dtype=object), y)
    np.testing.assert_array_equal(as_objects.predict_proba(x.to_numpy(dtype=object)), model.predict_proba(x))
    as_lists = clone(model).fit(x.to_numpy(dtype=object).tolist(), y.tolist())
    np.testing.assert_array_equal(as_lists.predict_proba(x.to_numpy(dtype=object).tolist()), model.predict_proba(x))


def test_categories_that_are_numbers_are_known_again_in_an_array(classifier):
    x = pd.DataFrame({"grade": pd.Categorical([10, 20, 30] * 20)})
    model = classifier.fit(x, np.array([0, 1, 0] * 20))
    expected = model.predict_proba(x)
    np.testing.assert_array_equal(model.predict_proba(x.astype(int)), expected)
    assert (model.predict(x.astype(float)) == [0, 1, 0] * 20).all()


def test_a_table_is_matched_with_the_one_of_training(classifier, mixed):
    x, y = mixed
    model = classifier.fit(x, y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(x[["age", "town", "noise"]])
    with pytest.raises(
        ValueError, match="column age held no texts when the estimator was fitted, but holds 'old' in rows 1, 2"
    ):
        model.predict(x.assign(age="old"))
    with pytest.raises(ValueError, match=r"X has 2 features.*expecting 3"):
        model.fit(x.to_numpy(), y).predict(x[["town", "age"]].to_numpy())


def test_in_pipelines_and_behind_a_column_transformer(classifier, mixed):
    x, y = mixed
    columns = ColumnTransformer([("town", OneHotEncoder(), ["town"]), ("rest", StandardScaler(), ["age", "noise"])])
    model = make_pipeline(columns, classifier.set_params(steps=60)).fit(x, y)
    assert model.score(x, y) > 0.85


def test_in_a_grid_search(classifier, table):
    search = GridSearchCV(classifier, {"n_networks": [1, 3], "hidden": [(8,), None]}, cv=2).fit(*table)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.n_networks == search.best_params_["n_networks"]
    assert 0 <= search.best_score_ <= 1


def test_a_run_directory_will_do_for_a_policy(classifier, adaptive, table):
    by_file = classifier.fit(*table).predict_proba(table[0])
    of_run = clone(classifier).set_params(policy=adaptive.removesuffix("/policy.safetensors"))
    np.testing.assert_array_equal(of_run.fit(*table).predict_proba(table[0]), by_file)


def test_steps_and_rows_of_a_step_can_be_given(classifier, table):
    model = classifier.set_params(steps=7, batch_size=5).fit(*table)
    assert model.n_iter_ == len(model.loss_curve_) == 7
    other = clone(model).set_params(batch_size=np.int64(6)).fit(*table)
    assert not np.allclose(model.loss_curve_, other.loss_curve_)


def test_without_a_shipped_policy_none_says_what_to_give(table, monkeypatch, tmp_path):
    monkeypatch.setattr("metaopt.pretrained.FOLDER", tmp_path)
    for estimator, kind in ((MetaTunedClassifier(), "classification"), (MetaTunedRegressor(), "regression")):
        with pytest.raises(
            PolicyFileError, match=f"policy is None, .* without tabular_{kind}.safetensors; give policy="
        ):
            estimator.fit(table[0], [0, 1] * 30)
        write_policy(tmp_path / f"tabular_{kind}.safetensors")
        assert estimator.fit(table[0], [0, 1] * 30).n_iter_ == 30
    by_name = MetaTunedRegressor("tabular_regression", random_state=0).fit(table[0], table[0][:, 1])
    assert by_name.n_iter_ == 30


@pytest.mark.parametrize(
    ("parameter", "value", "error", "words"),
    [
        ("policy", 3, TypeError, "policy is 3; expected the path of a policy.safetensors or of a run directory"),
        ("policy", "nowhere", PolicyFileError, "no policy file at nowhere"),
        ("steps", 0, ValueError, "steps is 0; expected a whole number, at least 1, or None for the policy's own"),
        ("steps", 2.5, TypeError, "steps is 2.5; expected a whole number"),
        ("batch_size", "all", TypeError, "batch_size is 'all'; expected a whole number"),
        ("batch_size", -1, ValueError, "batch_size is -1; expected a whole number, at least 1"),
        ("n_networks", None, TypeError, "n_networks is None; expected a whole number, at least 1$"),
        ("n_networks", True, TypeError, "n_networks is True; expected a whole number"),
        ("hidden", 32, TypeError, r"hidden is 32; expected the widths of the hidden layers, such as \(32, 32\)"),
        ("hidden", "32", TypeError, "hidden is '32'; expected the widths"),
        ("hidden", (32, 0), ValueError, r"hidden\[1\] is 0; expected a whole number, at least 1"),
        ("random_state", "seed", ValueError, "'seed' cannot be used to seed"),
        ("device", "tpu", ValueError, "device is 'tpu'; choose one of cpu, auto, cuda, cuda:N"),
        ("device", "cuda:99", ValueError, "device is 'cuda:99', but torch sees"),
    ],
)
def test_parameters_are_checked_when_it_is_fitted(classifier, table, parameter, value, error, words):
    model = classifier.set_params(**{parameter: value})
    with pytest.raises(error, match=words):
        model.fit(*table)


def test_a_policy_that_fits_its_own_model_only_is_refused(table, tmp_path):
    path = write_policy(tmp_path / "initialised.safetensors", INITIALISED)
    with pytest.raises(PolicyFileError, match="learned where training starts, which fits its own model only"):
        MetaTunedClassifier(path).fit(*table)


def test_a_policy_that_fits_by_role_says_so(table, tmp_path):
    path = write_policy(tmp_path / "by_element.safetensors", BY_ELEMENT)
    model = MetaTunedClassifier(path, random_state=0).fit(*table)
    assert "matched by role" in model.policy_note_


def test_the_network_is_that_of_the_policy_unless_widths_are_given(table, tmp_path):
    path = write_policy(tmp_path / "linear.safetensors", model=linear(TASK))
    assert set(MetaTunedClassifier(path).fit(*table)._weights) == {"output.weight", "output.bias"}
    images = conv4(TaskSpec(Kind.classification, (1, 16, 16), 3), channels=2)
    path = write_policy(tmp_path / "conv4.safetensors", model=images)
    with pytest.raises(ValueError, match=r"hidden is None, but the policy was meta-trained on a conv4.*give hidden="):
        MetaTunedClassifier(path).fit(*table)
    assert MetaTunedClassifier(path, hidden=(8,)).fit(*table).n_iter_ == 30


def test_networks_that_diverge_are_left_out_with_a_warning(classifier, table, monkeypatch):
    def with_one_diverged(*given):
        found = train(*given)
        return Trained({name: tensor[1:] for name, tensor in found.weights.items()}, found.losses, 1)

    monkeypatch.setattr(base, "train", with_one_diverged)
    with pytest.warns(ConvergenceWarning, match="training diverged in 1 of n_networks=3, which are left out") as caught:
        classifier.set_params(n_networks=3).fit(*table)
    assert caught[0].filename == __file__
    assert classifier.predict_proba(table[0]).shape == (60, 3)


def test_where_all_networks_diverge_there_is_an_error(table, tmp_path):
    path = write_policy(tmp_path / "wild.safetensors", PolicySettings("wild", lr=learned(1e39)))
    with pytest.raises(TrainingError, match="diverged in all of n_networks=2 within 30 steps"):
        MetaTunedRegressor(path, n_networks=2).fit(table[0], table[0][:, 0])
    with pytest.raises(TrainingError, match="within 1 steps"):  # which show in no loss
        MetaTunedRegressor(path, steps=1).fit(table[0], table[0][:, 0])


def test_one_class_alone_and_numbers_that_overflow_are_named(classifier, table):
    with pytest.raises(ValueError, match=r"y has one class only, .*'a'.*; a classifier needs two or more"):
        classifier.fit(table[0], ["a"] * 60)
    with pytest.raises(ValueError, match=r"X holds numbers beyond 1e\+100"):
        classifier.fit(table[0] * 1e200, table[1])
    with pytest.raises(ValueError, match=r"y holds numbers beyond 1e\+100"):
        MetaTunedRegressor(classifier.policy).fit(table[0], table[0][:, 0] * 1e200)


def test_tables_of_two_rows(adaptive):
    x = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert MetaTunedClassifier(adaptive, random_state=0).fit(x, ["a", "b"]).predict(x).tolist() == ["a", "b"]
    assert np.isfinite(MetaTunedRegressor(adaptive, random_state=0).fit(x, [1.0, 2.0]).predict(x)).all()
