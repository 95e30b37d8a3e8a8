import pytest

from metaopt.commands import describe
from metaopt.commands.launch import launch


def described(*overrides):
    return launch("describe", describe.describe, list(overrides))


def test_the_card_says_what_there_is_and_saves_a_picture(tmp_path, capsys):
    assert described("tasks=digits", "tasks.n_way=3", f"picture={tmp_path}/deep/card.png") == 0
    printed = capsys.readouterr().out
    for words in ("classification, 3 classes", "1 × 8 × 8", "support 30, query 45, test 120", "meta-validation"):
        assert words in printed
    assert (tmp_path / "deep" / "card.png").stat().st_size > 1000


def test_the_hash_is_that_of_the_records(tmp_path, capsys):
    from metaopt.tasks.images.digits import Digits

    assert described("tasks=digits", "tasks.split_seed=3", "picture=null") == 0
    assert Digits(split_seed=3).split_hash in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_each_part_of_a_mixture_is_described(tmp_path, capsys):
    parts = "tasks.parts={digits: {}, curves: {name: sinusoid}}"
    assert described("tasks=mixture", parts, f"picture={tmp_path}/card.png") == 0
    assert "regression, 1 target" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card-curves.png", "card-digits.png"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tasks.n_ways=3", "unknown override"),
        ("tasks.n_way=99", "tasks.n_way=99 needs 99 classes"),
        ("seed=-1", "seed is -1"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(override, words, capsys):
    assert described("tasks=digits", "picture=null", override) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("words", [[], ["tasks=digits"]])
def test_the_first_word_says_what_to_do(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["metaopt.tasks", *words])
    with pytest.raises(SystemExit) as stopped:
        describe.main()
    assert stopped.value.code == 2
    assert "usage: python -m metaopt.tasks describe" in capsys.readouterr().err
