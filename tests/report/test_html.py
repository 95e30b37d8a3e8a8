import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from page_parser import parsed

from metaopt.report.html import ReportContent, report_html, write_report

ATTACK = "<script>alert(1)</script>"
ROLES = {"hidden0.weight": "first.weight", "hidden0.bias": "first.bias"}
ROLES |= {"output.weight": "last.weight", "output.bias": "last.bias"}


@pytest.fixture(scope="module")
def content(comparison, searches, reading):
    facts = {"Command": "python evaluate.py checkpoint=run", "Seed": "0"}
    return ReportContent(comparison, searches, reading, ROLES, facts, ("a note of its own",))


@pytest.fixture(scope="module")
def page(content):
    return parsed(report_html(content))


def rows(page, key):
    """A table's cells as text, row by row, the headings first."""
    (table,) = page.all("table", id=key)
    return [[cell.text for cell in row.children if not isinstance(cell, str)] for row in table.all("tr")]


def figures(page):
    return [figure.attributes["id"] for figure in page.all("figure")]


def test_it_is_html_with_every_section(page):
    headings = [heading.text for heading in page.all("h2")]
    assert headings == ["Methods", "Search", "Training on a task", "What was learned", "Task by task", "What was run"]
    assert next(page.all("html")).attributes["lang"] == "en"
    targets = {element.attributes.get("id") for element in page.all()}
    links = [link.attributes["href"] for link in page.all("a")]
    assert links
    assert all(link.removeprefix("#") in targets for link in links)


def test_it_asks_the_network_for_nothing(content, page):
    text = report_html(content)
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    for element in page.all():
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert element.attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    policy = next(page.all("meta", http_equiv="Content-Security-Policy")).attributes["content"]
    assert policy.startswith("default-src 'none';")


def test_only_its_own_script_may_run(page):
    policy = next(page.all("meta", http_equiv="Content-Security-Policy")).attributes["content"]
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert not any(name.startswith("on") for element in page.all() for name in element.attributes)


def test_names_and_facts_from_others_stay_text(make_comparison, make_account, make_reading):
    members = (ATTACK, ATTACK, "b", "c")
    losses = {"policy": [0.1, 0.2, 0.3, 0.4], ATTACK: [0.3, 0.4, 0.2, 0.5]}
    comparison = make_comparison(losses, members=members, unit="table", tasks=ATTACK, notes=(ATTACK,))
    account = make_account(comparison, {f"tpe{ATTACK}": np.full((4, 3), 0.3)})
    reading = make_reading({"lr": {f"{ATTACK}.weight": 0.1, "b.weight": 0.2}}, {ATTACK: [1.0, 0.5], "b": [1.0, 0.6]})
    roles = {f"{ATTACK}.weight": ATTACK, "b.weight": ATTACK}
    content = ReportContent(comparison, account, reading, roles, {ATTACK: f'"{ATTACK}'}, (ATTACK,))
    page = parsed(report_html(content))
    assert len(list(page.all("script"))) == 1
    assert rows(page, "tasks")[1][0] == ATTACK
    assert ATTACK in next(page.all("dt")).text


@pytest.mark.parametrize("name", ["a_name_without_end" * 20, r"$\nonsense$", "$", "<b>&amp;"])
def test_no_name_breaks_a_figure(make_comparison, make_account, make_reading, name):
    comparison = make_comparison({"policy": [0.1, 0.2], name: [0.3, 0.4]}, tasks=name)
    reading = make_reading({"lr": {name: np.full((2, 64), 0.1), "b": 0.2}}, {name: [1.0, 0.5], "b": [1.0, 0.6]})
    account = make_account(comparison, {f"{name}_warm": [[0.3], [0.2]]})
    page = parsed(report_html(ReportContent(comparison, account, reading)))
    assert len(figures(page)) == 7
    assert rows(page, "methods")[2][0].startswith(name)


def test_every_figure_says_in_numbers_what_it_shows(page):
    assert figures(page) == [
        f"figure-{key}"
        for key in (
            "regret",
            "matching",
            "curves",
            "differences",
            "strengths-lr",
            "strengths-l2",
            "schedule",
            "first-layer-lr",
            "first-layer-l2",
        )
    ]
    for figure in page.all("figure"):
        (image,) = figure.all(role="img")
        assert len(image.attributes["aria-label"]) > 40
        assert re.search(r"\d", image.attributes["aria-label"])
        assert len(list(image.all("svg"))) == 1
        (caption,) = figure.all("figcaption")
        assert caption.text.strip()


def test_alternatives_hold_the_numbers_of_the_figure(page, searches):
    labels = {f.attributes["id"]: next(f.all(role="img")).attributes["aria-label"] for f in page.all("figure")}
    tpe = searches.methods["tpe"]
    never = f"{100 * np.mean(tpe.match == 0):.0f} %"
    assert f"tpe at once 0 %, later {100 * np.mean(tpe.match > 1):.0f} %, never {never}" in labels["figure-matching"]
    assert f"matching the policy at {tpe.match_on_mean}" in labels["figure-regret"]
    assert "tuned goes from 1.60 to" in labels["figure-curves"]


def test_no_id_comes_twice(page):
    ids = Counter(e.attributes["id"] for e in page.all() if "id" in e.attributes)
    assert max(ids.values()) == 1


def test_every_colour_variable_that_is_used_is_declared(content):
    text = report_html(content)
    used, declared = set(re.findall(r"var\((--[a-z0-9]+)\)", text)), set(re.findall(r"(--[a-z0-9]+):", text))
    assert used <= declared
    dark = text.partition("prefers-color-scheme: dark")[2].partition("</style>")[0]
    assert {name for name in used if re.fullmatch(r"--[ct][0-9a-f]{6}", name)} <= set(re.findall(r"(--\w+):", dark))


def test_headings_of_tables_are_buttons_and_cells_have_keys_to_sort_by(page):
    tables = list(page.all("table"))
    assert [table.attributes["id"] for table in tables] == ["methods", "account", "tensors", "tasks"]
    for table in tables:
        assert table.attributes["class"] == "sortable"
        head, *body = table.all("tr")
        assert all(len(list(heading.all("button", type="button"))) == 1 for heading in head.all("th"))
        for row in body:
            assert next(row.all("th")).attributes["scope"] == "row"
            assert all("data-key" in cell.attributes for cell in row.children if not isinstance(cell, str))
        assert table.parent.attributes["role"] == "region"
        assert table.parent.attributes["tabindex"] == "0"


def test_the_methods_table_has_baselines_and_searches(page, searches):
    head, *body = rows(page, "methods")
    assert head == ["Method", "Test loss", "Accuracy", "Difference", "Verdict", "Wins", "Holm p", "Trials"]
    assert [row[0].partition("the ")[0] for row in body] == ["policy", "sgd", "tuned", "random", "tpe", "tpe_warm"]
    for row, name in zip(body[3:], searches.methods, strict=True):
        method = searches.methods[name]
        assert float(re.match(r"[+-]?\d+\.\d{3}", row[3])[0]) == pytest.approx(method.against.difference.mean, abs=1e-3)
        assert row[7] == "20"


def test_better_is_claimed_only_where_holm_and_the_interval_allow_it(content, searches):
    random = replace(searches.methods["random"], p_holm=0.06)
    doubtful = replace(content, account=replace(searches, methods={"random": random}))
    page = parsed(report_html(doubtful))
    verdicts = {row[0].partition("the ")[0]: row[4] for row in rows(page, "methods")[1:]}
    assert random.against.difference.low > 0
    assert verdicts["random"] == "not distinguishable"
    second = [p.text for p in page.all("p") if p.attributes.get("class") == "headline"][1]
    assert "not distinguishable from random" in second
    assert "lower than" not in second


def test_the_interval_is_that_of_the_strongest_rival(page, content, searches):
    (sentence,) = (p.text for p in page.all("p") if p.attributes.get("class") == "interval")
    last = {name: method.loss[-1].mean for name, method in searches.methods.items()}
    assert f"that of {min(last, key=last.get)} after 20 trials" in sentence
    assert sentence.count("95 % interval") == 2
    without = parsed(report_html(replace(content, account=None)))
    (sentence,) = (p.text for p in without.all("p") if p.attributes.get("class") == "interval")
    assert "that of tuned, " in sentence


def test_the_account_says_never_at_once_and_break_even(page, searches):
    head, *body = rows(page, "account")
    assert head[-2:] == ["Break-even, tasks", "Break-even by time"]
    assert [row[2] for row in body] == [str(m.match_on_mean or "never") for m in searches.methods.values()]
    assert body[0][3] == f"{100 * np.mean(searches.methods['random'].match == 0):.0f} %"


def test_seconds_that_are_not_known_have_no_column(comparison, make_account, content):
    account = make_account(comparison, {"tpe": np.full((40, 3), 2.0)}, seconds=None)
    assert "Break-even by time" not in rows(parsed(report_html(replace(content, account=account))), "account")[0]


def test_the_table_of_tasks_has_a_row_for_each_with_trials_to_match(page, comparison, searches):
    head, *body = rows(page, "tasks")
    assert len(body) == 40
    assert head[-3:] == [f"{name}: trials to match" for name in searches.methods]
    assert [row[-2] for row in body] == [str(each) if each else "never" for each in searches.methods["tpe"].match]
    (table,) = page.all("table", id="tasks")
    keys = [next(r.all("th")).parent.children for r in list(table.all("tr"))[1:]]
    losses = [[c for c in cells if not isinstance(c, str)][1].attributes["data-key"] for cells in keys]
    assert [float(each) for each in losses] == pytest.approx(comparison.methods["policy"].loss)


def test_facts_and_notes_are_there_in_order(page):
    assert [dt.text for dt in page.all("dt")] == ["Command", "Seed"]
    assert next(page.all("dd")).text == "python evaluate.py checkpoint=run"
    assert "a note of its own" in [li.text for li in page.all("li")]


def test_the_same_content_gives_the_same_page_and_it_is_small(content, tmp_path):
    write_report(content, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == report_html(content)
    assert (tmp_path / "new" / "report.html").stat().st_size < 1_000_000


def test_without_searches_there_is_no_section_on_them(content):
    page = parsed(report_html(replace(content, account=None)))
    assert "Search" not in [heading.text for heading in page.all("h2")]
    assert "#search-section" not in [link.attributes["href"] for link in page.all("a")]
    assert figures(page)[0] == "figure-curves"
    assert "Holm p" in rows(page, "methods")[0]  # two baselines are two tests


def many_methods(make_comparison, make_account):
    losses = {"policy": np.linspace(0.1, 0.2, 5)} | {f"method{k}": np.linspace(0.2, 0.3 + k, 5) for k in range(12)}
    comparison = make_comparison(losses, accuracy=True)
    return comparison, make_account(comparison, {f"search{k}": np.full((5, 4), 0.1 + 0.1 * k) for k in range(12)})


def one_task(make_comparison, make_account):
    comparison = make_comparison({"policy": [0.3], "sgd": [0.4]}, horizon=1)
    return comparison, make_account(comparison, {"tpe": [[0.5]]})


def tables(make_comparison, make_account):
    losses = {"policy": [0.3, 0.5, 0.1, 0.2], "sgd": [0.4, 0.6, 0.3, 0.1]}
    comparison = make_comparison(losses, members=("a", "a", "b", "c"), unit="table")
    return comparison, make_account(comparison, {"tpe": np.full((4, 3), 0.25)})


def diverged(make_comparison, make_account):
    losses = {"policy": [0.3, 0.5], "sgd": [1e30, 0.6]}
    comparison = make_comparison(losses, diverged={"policy": 1, "sgd": 2})
    return comparison, make_account(comparison, {"tpe": [[1e30, 0.3], [1e25, 0.9]]})


def policy_alone(make_comparison, make_account):
    return make_comparison({"policy": [0.3, 0.5]}), None


@pytest.mark.parametrize("case", [many_methods, one_task, tables, diverged, policy_alone])
def test_every_kind_of_evaluation_has_a_page(make_comparison, make_account, make_reading, case):
    comparison, account = case(make_comparison, make_account)
    bare = make_reading({"lr": {"w": 0.1}}, input_shape=(1,))
    text = report_html(ReportContent(comparison, account, bare))
    page = parsed(text)
    units = len(set(comparison.members)) or comparison.n_tasks
    assert len(rows(page, "tasks")) == 1 + units
    assert len(rows(page, "methods")) == 1 + len(comparison.methods) + (len(account.methods) if account else 0)
    readable = " ".join(element.text for element in page.all("main"))
    assert not re.search(r"\bnan\b", readable, re.IGNORECASE)


def test_a_policy_without_any_strength_still_has_a_page(comparison, make_reading):
    page = parsed(report_html(ReportContent(comparison, None, make_reading({}, learned=()))))
    assert figures(page) == ["figure-curves", "figure-differences"]


def test_roles_that_several_tensors_share_have_a_table(comparison, make_reading):
    rates = {f"hidden{k}.weight": 0.1 * k for k in (1, 2, 4)}
    roles = dict(zip(rates, ("first.weight", "hidden.weight", "hidden.weight"), strict=True))
    page = parsed(report_html(ReportContent(comparison, None, make_reading({"lr": rates}), roles)))
    assert [row[0] for row in rows(page, "roles")[1:]] == ["first.weight", "hidden.weight"]
    assert float(rows(page, "roles")[2][1]) == pytest.approx(0.1 * 8**0.5, abs=1e-3)
