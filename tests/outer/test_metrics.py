import json

from metaopt.outer.metrics import MetricsFile, read_metrics


def test_records_come_back_in_order(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [{"kind": "meta_train", "iteration": i, "loss": i / 3, "accuracy": None} for i in range(5)]
    file = MetricsFile(path)
    for record in records:
        file.write(record)
    file.close()
    assert read_metrics(path) == records


def test_what_is_no_number_becomes_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    file.write(
        {"nan": float("nan"), "inf": float("inf"), "minus": float("-inf"), "number": 1.5, "count": 3, "words": "nan"}
    )
    file.close()
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == {"nan": None, "inf": None, "minus": None, "number": 1.5, "count": 3, "words": "nan"}


def test_what_came_after_the_checkpoint_is_cut_off_on_resuming(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    file.write({"iteration": 1})
    kept = file.sync()
    assert path.stat().st_size == kept.length, "nothing is left in a buffer"
    file.write({"iteration": 2})
    file.close()
    with path.open("ab") as half:
        half.write(b'{"iteration": 3, "lo')  # the process died while it wrote
    resumed = MetricsFile(path, kept)
    resumed.write({"iteration": 22})
    resumed.close()
    assert read_metrics(path) == [{"iteration": 1}, {"iteration": 22}]


def test_a_new_run_begins_with_an_empty_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 7}\n')
    MetricsFile(path).close()
    assert read_metrics(path) == []


def test_no_file_has_no_records(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
