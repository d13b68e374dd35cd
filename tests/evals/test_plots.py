"""Plots become part of a page: its colours, their own ids, positions that follow the values."""

import re

import pytest

from instructloop.evals import plots


def forest(**options) -> str:
    rows = [
        plots.Row("PPO", [plots.Mark(0.6, 0.5, 0.7, 3, text="60%"), plots.Mark(0.5, None, None, 3, "square")]),
        plots.Row("a < b & $x^2$", [plots.Mark(0.2, 0.1, 0.4, 0, paper=0.3)]),
    ]
    return plots.forest("one", "A title & more", "What it shows", rows, xlabel="%", scale=100, **options)


def test_colours_are_the_pages_variables():
    svg = forest(reference=0.5)
    assert not re.search(r"#0[12]0[0-9a-f]{3}", svg)
    for variable in ("--ink", "--muted", "--grid", "--card", "--c0", "--c3"):
        assert f"var({variable})" in svg
    assert "#000000" not in svg


def test_text_stays_text_in_the_pages_font_and_mathematics_is_not_read():
    svg = forest()
    assert ">a &lt; b &amp; $x^2$</text>" in svg
    assert "font-family" not in svg
    assert "DejaVu" not in svg
    assert '<title id="one-title">A title &amp; more</title>' in svg


def test_nothing_of_it_reaches_the_rest_of_the_page():
    svg = forest()
    assert not re.search(r"<style|<\?xml|<!DOCTYPE", svg)
    assert all(identity.startswith("one-") for identity in re.findall(r'\bid="([^"]+)"', svg))


def test_the_same_figure_is_the_same_bytes_and_carries_no_date():
    assert forest() == forest()
    assert not re.search(r"20\d\d-\d\d", forest())


def test_an_interval_is_drawn_to_scale():
    svg = plots.forest(
        "one", "t", "d", [plots.Row("x", [plots.Mark(0.5, 0.25, 1.0, 2)])], xlabel="%", scale=100, xlim=(0.0, 1.0)
    )
    ends = r'd="M ([\d.]+) [\d.]+ L ([\d.]+) [\d.]+ "'
    left, right = map(float, re.search(ends + r"[^>]*stroke: var\(--c2\)", svg).groups())
    axis_left, axis_right = map(float, re.search(ends + r' style="fill: none; stroke: var\(--grid\)', svg).groups())
    width = axis_right - axis_left
    assert (left - axis_left) / width == pytest.approx(0.25, abs=1e-4)
    assert (right - axis_left) / width == pytest.approx(1.0, abs=1e-4)


def test_a_noisy_line_is_drawn_with_its_moving_mean():
    # reach 100 // 20 = 5, so 11 values: 45..55 holds six odd numbers, 46..56 five; the first window is 0..5
    smooth = plots._smoothed([i % 2 for i in range(100)])
    assert smooth[50] == pytest.approx(6 / 11)
    assert smooth[51] == pytest.approx(5 / 11)
    assert smooth[0] == pytest.approx(0.5)


def test_single_points_and_labels_the_font_lacks_are_no_trouble(recwarn: pytest.WarningsRecorder):
    line = plots.Line("日本語", [(1.0, 2.0)], 1)
    assert "<path" in plots.lines("two", "t", "d", [plots.Panel("損失", [line])], xlabel="step")
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
