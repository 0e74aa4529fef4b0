"""Names of classes, runs and phases in plots: any letters, any length, and no formulas."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report import lettering
from pipeline.report.box_plots import draw_box_confusion
from pipeline.report.canvas import text_line
from pipeline.report.figure import LIGHT, add_legend, encode, new_axes
from pipeline.report.lettering import MOST_OF_A_NAME, drawable, fallbacks, legend_label, make_legible, middle_cut
from pipeline.report.plots import draw_class_curves, draw_class_histogram, draw_confusion
from pipeline.report.read import ClassRow

NAMES = ["$x^{$", "$$", "$a$ $b$", "猫と犬", "שלום مرحبا", "🐱\u200d👓", "_road", "a\\$b", "b" * 400, "<b>&amp;\"'%"]


def figure_of(name: str):
    """A figure with a name in each place that has one."""
    figure, axes = new_axes(LIGHT, name, 200)
    axes.plot([0, 1], [0, 1], label=legend_label(name))
    axes.set_xlabel(name)
    axes.text(0.5, 0.5, name)
    axes.set_yticks([0, 1], [name, "other"])
    add_legend(axes, LIGHT, 1)
    return figure, axes


@pytest.mark.parametrize("name", NAMES)
def test_every_plot_of_classes_stands_any_names_without_a_warning(name):
    rows = [ClassRow(one, (90, 90, 90), 3, 1, 30, 0.5) for one in (name, "other")]
    history = {
        "epoch": ["0", "1"],
        "phase": ["start", "flat"],
        "is_best": ["0", "1"],
        f"valid_dice_{name}": ["0.1", "0.2"],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (
            lambda: draw_class_histogram(rows, "images"),
            lambda: draw_class_curves(history, "dice", {}),
            lambda: draw_confusion({"truth": [name, "other"], name: ["1", "0"], "other": ["0", "1"]}),
            lambda: draw_box_confusion([name, "background"], [[1, 0], [0, 1]]),
            lambda: encode(figure_of(name)[0]),
        ):
            assert draw().startswith(b"\x89PNG")
        assert text_line(name, 20, 300).any()


@settings(max_examples=15)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_is_drawn(text):
    figure, _ = figure_of(text)
    assert encode(figure).startswith(b"\x89PNG")


def test_dollars_are_drawn_as_they_are():
    figure, axes = figure_of("$x^2$")
    make_legible(figure)
    figure.draw_without_rendering()
    texts = [axes.get_title("left"), axes.get_xlabel(), axes.texts[0].get_text(), axes.get_yticklabels()[0].get_text()]
    assert texts == [r"\$x^2\$"] * 4  # which matplotlib draws as $x^2$


def test_long_names_leave_room_for_the_plot():
    figure, axes = figure_of("a" * 300)
    axes.set_xlabel("")
    axes.texts[0].remove()
    make_legible(figure)
    figure.draw_without_rendering()
    assert all(len(label.get_text()) <= MOST_OF_A_NAME for label in axes.get_yticklabels())
    assert all(len(text.get_text()) <= MOST_OF_A_NAME for text in axes.get_legend().get_texts())
    width, height = axes.get_window_extent().size / figure.bbox.size
    assert width > 0.3 and height > 0.3


def test_a_cut_name_keeps_its_number():
    assert middle_cut("x" * 100 + " 0.53", MOST_OF_A_NAME).endswith("xxxx 0.53")
    assert len(middle_cut("x" * 100, MOST_OF_A_NAME)) == MOST_OF_A_NAME


def test_letters_come_from_an_installed_font_that_has_them():
    letter = "\N{COMBINING ENCLOSING SQUARE}"  # of STIX, which comes with matplotlib
    assert drawable("a" + letter) == "a" + letter
    families = fallbacks("a" + letter)
    assert len(families) == 1 and not families[0].startswith(lettering.PLACEHOLDERS)
    figure, axes = figure_of("a" + letter)
    make_legible(figure)
    assert axes.texts[0].get_fontfamily() == ["DejaVu Sans", *families]


def test_letters_of_no_font_are_escaped_and_noted_once(monkeypatch, capsys):
    monkeypatch.setattr(lettering, "NOTED", [])
    monkeypatch.setattr(lettering, "_family_with", lambda letter: None)
    for _ in range(2):
        figure, axes = figure_of("猫")
        make_legible(figure)
        assert axes.texts[0].get_text() == r"\u732b"
    printed = capsys.readouterr().out
    assert printed.count("note: no installed font has 猫") == 1 and "fonts-noto-cjk" in printed


def test_captions_of_images_are_drawn_as_letters_or_escapes():
    assert np.array_equal(text_line("猫", 20, 300), text_line("\\u732b", 20, 300))
