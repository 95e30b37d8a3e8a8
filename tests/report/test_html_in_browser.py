import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from metaopt.report.colours import PAPER
from metaopt.report.html import ReportContent, report_html

NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser", "chrome")
PROBE = (Path(__file__).parent / "page_probe.js").read_text(encoding="utf-8")
AROUND = """<!DOCTYPE html><meta charset="utf-8"><iframe src="page.html" style="border:0;width:{width}px;height:900px">
</iframe><pre id="found"></pre><script>addEventListener("message", (event) => {{
document.getElementById("found").textContent = JSON.stringify(event.data); }});</script>"""
MODES = {"light": 1, "dark": 0}


@pytest.fixture(scope="module")
def browser():
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"there is no browser: none of {', '.join(NAMES)} is on the PATH, and $CHROME is not set")
    return found


@pytest.fixture(scope="module")
def page(comparison, searches, reading):
    """A page as wide as it gets: long names, long facts, every section."""
    long = {f"{name}_with_a_name_that_does_not_end": method for name, method in comparison.methods.items()}
    wide = replace(comparison, methods=comparison.methods | {k: v for k, v in long.items() if "policy" not in k})
    roles = dict.fromkeys(reading.strengths["lr"], "first.weight")
    facts = {"Command": "python evaluate.py " + "checkpoint=a/very/long/path/without/a/space" * 8}
    return report_html(ReportContent(wide, searches, reading, roles, facts))


def dom(browser, path, tmp_path, mode="light"):
    """The document once its scripts have run."""
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=5000"]
    command += [f"--blink-settings=preferredColorScheme={MODES[mode]}", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--window-size=1300,1000", path.as_uri()], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def looked_at(browser, page, tmp_path, width, mode):
    """What the probe finds in a copy of the page, which is let run it, in a frame of that width."""
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    probed = without_policy.replace("</body>", f"<script>{PROBE}</script></body>")
    (tmp_path / "page.html").write_text(probed, encoding="utf-8")
    (tmp_path / "around.html").write_text(AROUND.format(width=width), encoding="utf-8")
    found = re.search(r'<pre id="found">(.*?)</pre>', dom(browser, tmp_path / "around.html", tmp_path, mode), re.DOTALL)
    assert found is not None
    assert found[1], "the probe did not end"
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_everything_is_read_and_tables_sort(browser, page, comparison, tmp_path, width, mode):
    found = looked_at(browser, page, tmp_path, width, mode)
    assert found["width"] == width
    assert found["overflow"] <= 0
    assert found["outside"] == []
    assert found["tables"] == 0
    paper = int(PAPER[mode][1:], 16)
    assert found["background"] == f"rgb({paper >> 16}, {paper >> 8 & 255}, {paper & 255})"
    assert found["contrast"][0] >= 4.5, found["contrast"]
    check_order(found["numbers"], float)
    check_order(found["matches"], float)
    check_order(found["words"], str)
    losses = sorted(comparison.methods["policy"].loss)
    assert [float(key) for key in found["numbers"]["found"][0]["keys"]] == pytest.approx(losses)
    assert "Infinity" in found["matches"]["found"][0]["keys"]


def check_order(pressed, kind):
    """Ascending at first, descending when pressed again, and said so on one heading only."""
    first, second = pressed["found"]
    assert (first["order"], second["order"]) == ("ascending", "descending")
    keys = [kind(key) for key in first["keys"]]
    assert keys == sorted(keys)
    assert [kind(key) for key in second["keys"]] == keys[::-1] or len(set(keys)) < len(keys)
    assert sorted(map(kind, second["keys"])) == keys
    assert pressed["others"] == 1


def test_its_policy_lets_its_own_script_run_and_no_other(browser, page, tmp_path):
    (tmp_path / "page.html").write_text(
        page.replace("</body>", "<script>document.title = 'foreign'</script></body>"), encoding="utf-8"
    )
    shown = dom(browser, tmp_path / "page.html", tmp_path)
    assert re.search(r'<html[^>]*class="js"', shown)
    assert "<title>foreign</title>" not in shown


def test_untrusted_names_run_nothing(browser, make_comparison, make_reading, tmp_path):
    attack = "<img src=x onerror=\"document.title='foreign'\"><script>document.title='foreign'</script>"
    comparison = make_comparison({"policy": [0.1, 0.2], attack: [0.3, 0.4]}, members=(attack, "b"), unit="table")
    content = ReportContent(comparison, None, make_reading({"lr": {"w": 0.1}}), facts={attack: attack})
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report_html(content))
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert "<title>foreign</title>" not in dom(browser, tmp_path / "page.html", tmp_path)
