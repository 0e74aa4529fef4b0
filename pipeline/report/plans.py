"""The learning rate of a training plan over epochs: as planned, and as it was trained.

In: phases of a plan. Out: points, PNG bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.plan import Phase, learning_rate
from pipeline.report.curves import Span, draw_phases
from pipeline.report.figure import LIGHT, Theme, encode, new_figure, style_axes

PLAN_STEPS = 40  # points per epoch of a drawn plan, at most: a smooth line, and warm-ups within an epoch show


def plan_curve(
    plan: Sequence[Phase], steps_per_epoch: int = PLAN_STEPS
) -> tuple[list[tuple[float, float]], list[Span]]:
    """Returns (epoch, LR) points of a plan as if no patience ran out, and the spans of its phases.

    Args:
        steps_per_epoch: how long a warm-up that is scored in steps looks, and how finely the plan is drawn.
    """
    points: list[tuple[float, float]] = []
    spans: list[Span] = []
    start = 0
    for phase in plan:
        points += _phase_curve(phase, start, phase.epochs, steps_per_epoch)
        spans.append((phase.name, start, start + phase.epochs))
        start += phase.epochs
    return points, spans


def trained_curve(plan: Sequence[Phase], spans: Sequence[Span], steps_per_epoch: int) -> list[tuple[float, float]]:
    """Returns the (epoch, LR) points of the epochs that were trained.

    Args:
        spans: the phases as they were trained, see `curves.phase_spans`.
    """
    phases = {phase.name: phase for phase in plan}
    if not {name for name, _, _ in spans} <= set(phases):
        return []  # trained with another plan
    return [
        point
        for name, start, end in spans
        for point in _phase_curve(phases[name], start, round(end - start), steps_per_epoch)
    ]


def _phase_curve(phase: Phase, start: float, epochs: int, steps_per_epoch: int) -> list[tuple[float, float]]:
    """Returns points in the middle of steps, and one at either end, so that sudden changes stand upright."""
    per_epoch = min(PLAN_STEPS, steps_per_epoch)
    steps = [number * steps_per_epoch // per_epoch for number in range(epochs * per_epoch)]
    rates = [learning_rate(phase, step, steps_per_epoch) for step in steps]
    inner = [(start + (step + 0.5) / steps_per_epoch, rate) for step, rate in zip(steps, rates, strict=True)]
    return [(start, rates[0]), *inner, (start + epochs, rates[-1])]


def draw_plan(
    points: Sequence[tuple[float, float]],
    spans: Sequence[Span],
    title: str = "Learning rate of the plan",
    theme: Theme = LIGHT,
) -> bytes:
    """Returns the LR over epochs with the phases shaded and named.

    Args:
        points: (epoch, LR); the epoch counts in fractions from 0.
        spans: name, first and last epoch of each phase.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(theme, height=300)
    axes = figure.subplots()
    style_axes(axes, theme, title)
    axes.plot(*zip(*points, strict=True), color=theme.valid, linewidth=1.8)
    axes.set_ylim(0, max(rate for _, rate in points) * 1.18)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("learning rate")
    axes.set_xlabel("epoch")
    axes.set_xlim(spans[0][1], spans[-1][2])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_phases(axes, spans, theme, named=True)
    return encode(figure)
