"""A model comparison as one HTML page: the table, and log loss over CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.artifacts.model_comparison import ComparedOption, Estimate, ModelComparison
from pipeline.artifacts.workspace import Workspace
from pipeline.report.charts import NUM_SERIES
from pipeline.report.page import STYLESHEET, make_environment
from pipeline.report.plot import Line, Plot, fit_range

RADIUS = 3.5
APART = 0.02  # of the axis, between options of equal cost: their error bars would cover each other


def render_comparison(comparison: ModelComparison, section: str) -> str:
    """Return the comparison as one HTML document.

    Args:
        comparison: What was found.
        section: The `model` section of the choice, as YAML.
    """
    from markupsafe import Markup

    environment = make_environment()
    environment.filters.update(estimate=estimate, megabytes=megabytes)
    style = Markup(STYLESHEET.read_text(encoding="utf-8"))
    plot = Markup(draw_options(comparison.options))
    template = environment.get_template("comparison.html")
    return template.render(comparison=comparison, section=section, plot=plot, style=style) + "\n"


def write_comparison_page(workspace: Workspace, comparison: ModelComparison, section: str) -> str:
    """Write the page of a comparison, which the page *Models* shows; return its URI."""
    uri = workspace.classifier(comparison.classifier).comparison_page
    workspace.storage.write_bytes(uri, render_comparison(comparison, section).encode())
    return uri


def draw_options(options: Sequence[ComparedOption]) -> str:
    """Return log loss, with a standard error to either side, over CPU time."""
    low, high = fit_range([option.cpu_ms for option in options])
    lines = list(_draw(options, apart=APART * (high - low)))
    y_range = fit_range([loss for line in lines for _, loss in line.points])
    x_range = (low, max(high, *(across for line in lines for across, _ in line.points)))
    title, x = "Log loss and cost of each option", "CPU time of a picture, ms"
    return Plot(title=title, lines=lines, x=x, y="log loss", x_range=x_range, y_range=y_range).svg()


def _draw(options: Sequence[ComparedOption], *, apart: float) -> Iterator[Line]:
    last = 0.0
    for number, option in enumerate(sorted(options, key=lambda option: option.cpu_ms)):
        last = across = max(option.cpu_ms, last + apart)
        loss, series = option.cross_validated.log_loss, number % NUM_SERIES
        yield Line(
            points=[(across, loss.value - loss.error), (across, loss.value + loss.error)], series=series
        )
        point = [(across, loss.value)]
        yield Line(points=point, label=option.name, series=series, is_drawn=False, radii=[RADIUS])


def estimate(value: Estimate) -> str:
    """Return a figure with its standard error."""
    return value.line


def megabytes(num_bytes: int) -> str:
    """Return a size in MB."""
    return f"{num_bytes / 1e6:.1f} MB"
