"""The page and the terminal's table: whole, self-contained, honest about what is absent, and deaf to hostile text."""

import base64
import hashlib
import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from instructloop.evals.report import build, duration, render, summary_table, trees, visible
from instructloop.evals.report_schema import Lineage, checked


def plain(text: str) -> str:
    """Return text with dashes and minus signs as hyphens."""
    return text.replace("\u2013", "-").replace("\u2212", "-")


VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def reports():
    """Return conftest.py as a module, to render each report once."""
    spec = importlib.util.spec_from_file_location("reports", Path(__file__).parent / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def html(reports) -> str:
    return render(reports.microworld())


@pytest.fixture(scope="module")
def real_html(reports) -> str:
    return render(reports.real())


def test_every_section_of_a_full_report_is_there(html: str):
    sections = [attributes["id"] for attributes in Page(html).all("section")]
    assert sections == [
        "preference",
        "claims",
        "ratings",
        "categories",
        "reward-model",
        "truth",
        "harm",
        "tax",
        "completions",
        "drift",
        "training",
        "samples",
        "lineage",
        "method",
    ]


def test_the_page_asks_nothing_of_the_network(html: str):
    page = Page(html)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert all("src" not in attributes for _, attributes in page.tags)
    links = [a.get("href") or a.get("xlink:href") or "#" for _, a in page.tags]
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"@import|url\((?!#)", html)


def test_the_policy_of_the_page_allows_its_own_script_and_no_other(html: str):
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in Page(html).all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_hostile_text_is_shown_and_not_obeyed(html: str):
    page = Page(html)
    assert len(page.all("script")) == 1
    text = "".join(page.texts)
    assert "<script>alert('prompt')</script> & <b>bold</b> {{ 7 * 7 }}" in text
    assert "</script><script>alert(1)</script>" in text
    assert "</pre><script>alert(2)</script>" in text
    assert "⟨U+202E⟩gnippilf" in text
    assert "⟨U+D800⟩ lone" in text
    assert not re.search("[\u202a-\u202e\ud800-\udfff\x07]", html)


def test_a_hostile_policy_name_stays_text(real_report: dict):
    name = '<b onmouseover="x()">$\\frac'
    real_report["samples"][0]["completions"][0]["policy"] = name
    real_report["kl"][name] = real_report["kl"].pop("ppo_ptx")
    page = Page(render(real_report))
    assert not any("onmouseover" in attributes for _, attributes in page.tags)
    assert name in "".join(page.texts)


def test_ids_are_unique_and_every_reference_is_met(html: str):
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = set(re.findall(r"url\(#([^)]+)\)", html))
    named |= {(a.get("href") or a.get("xlink:href", "#"))[1:] for _, a in page.tags if "href" in a or "xlink:href" in a}
    named |= {one for _, a in page.tags for one in a.get("aria-labelledby", "").split()}
    assert named <= set(ids)


def test_every_plot_can_be_heard(html: str):
    plots = [a for a in Page(html).all("svg") if a.get("class") == "plot"]
    assert len(plots) > 20
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in plots)
    described = dict(re.findall(r'<desc id="([^"]+)">(.*?)</desc>', html))
    assert "PPO-ptx: 63.7% (interval 58.2-69.2), paper 70.8%; 61.5% (interval 56.7-66.3)." in plain(
        described["win-rate-wide-desc"]
    )
    assert all(text for text in described.values())


def table_cells(html: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "|", plain(cell)) for cell in re.findall(r"<td>(.*?)</td>", html, flags=re.S)]


def test_a_cell_has_value_interval_n_and_the_papers_figure(html: str):
    cells = table_cells(html)
    assert "|63.7%||58.2-69.2||n 360 · 120 prompts|||◇| paper 70.8%|" in cells
    assert "|0.580||0.550-0.610||n 120|||◇| paper 0.618|" in cells
    assert any(cell.startswith("|50.0%||by definition|") for cell in cells)


def test_what_ppo_lost_is_compared_with_what_ppo_ptx_took_back(html: str):
    # cloze: 72 - 96 = -24, 94 - 96 = -2 points; 1 - 2 / 24 = 92 % taken back; reach sqrt(2^2 + 2^2) = 2.8
    assert table_cells(html[html.index("Change against the base") :])[:3] == [
        "|-24.0||-26.8 to -21.2||n 200|",
        "|-2.0||-4.8 to 0.8||n 200|",
        "|92%|",
    ]


def test_simulated_labelers_are_announced_and_real_ones_are_not(html: str, real_html: str):
    assert '<p class="banner"><b>Simulated labelers.</b>' in html
    assert "imulated" not in real_html


def test_a_run_without_labelers_or_judge_leaves_their_sections_out(real_html: str):
    page = Page(real_html)
    assert [a["id"] for a in page.all("section")] == [
        "reward-model",
        "language",
        "completions",
        "drift",
        "training",
        "samples",
        "method",
    ]
    text = "".join(page.texts)
    assert "58% of held-out pairs" in text
    assert "SmolLM2-135M-Instruct" in text


def test_the_least_report_is_a_page():
    page = Page(render({"title": "A round", "seed": 3, "simulated": False, "wall_seconds": 61}))
    assert [a["id"] for a in page.all("section")] == ["method"]
    assert "1 min 01 s" in "".join(page.texts)


def test_equal_reports_are_equal_bytes_and_a_wrong_one_is_not_written(
    real_report: dict, real_html: str, tmp_path: Path
):
    build(real_report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == real_html
    first = (tmp_path / "report.html").read_bytes()
    with pytest.raises(ValueError, match="seed"):
        build({**real_report, "seed": "one"}, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_run_with_several_descendants_is_spelt_out_once(microworld_report: dict):
    lineage = Lineage.model_validate(microworld_report["lineage"])
    spelt: list[str] = []

    def walk(node):
        if not node.is_repeat:
            spelt.append(node.id)
        for child in node.children:
            walk(child)

    for tree in trees(lineage).values():
        walk(tree)
    assert sorted(spelt) == sorted(lineage.runs)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (61, "1 min 01 s"), (119.6, "2 min 00 s"), (7500, "2 h 05 min")]
)
def test_durations_are_read_as_people_say_them(seconds: float, text: str):
    assert duration(seconds) == text


def test_line_breaks_stay_and_unseen_characters_are_numbered():
    assert visible("a\r\nb\tc\n") == "a\nb\tc\n"
    assert visible("a\x00\u2066b") == "a⟨U+0000⟩⟨U+2066⟩b"


def printed(report: dict, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    console.print(summary_table(report))
    return plain(console.export_text())


def test_the_terminals_table_fits_eighty_columns(microworld_report: dict):
    text = printed(microworld_report, 80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if "PPO-ptx " in line and "63.7%" in line)
    assert row.split() == ["PPO-ptx", "63.7%", "61.5%", "5.01", "52.0%", "17.0%", "4.0%", "-2.1%", "3.1"]
    assert "(simulated labelers)" in " ".join(text.split())
    assert "seed 1" in text


def test_the_terminals_table_of_a_real_run_has_its_own_columns(real_report: dict):
    text = printed(real_report, 80)
    assert "loss on" in text
    assert "3.240" in text
    assert "58.4% (54-62%) with held-out rankings" in " ".join(text.split())


def test_curves_of_a_long_run_are_thinned_for_the_page(real_report: dict):
    real_report["curves"] = {"loss/lm": {"sft": [[i, 1.0 + i % 2] for i in range(50_000)]}}
    assert len(render(real_report)) < 200_000
    assert len(checked(real_report).curves["loss/lm"]["sft"]) == 50_000
