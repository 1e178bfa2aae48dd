"""A set that somebody proposes: judged as workers do, previewed, and held against what it may
change.
"""

from collections.abc import Mapping

import click

from workers.commands.preview_tables import preview_lines
from workers.commands.weights.sample import Sample
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.preview import preview
from workers.ranking.weights import Weights, WeightsRefused
from workers.settings import ConfigurationError
from workers.steering.editor import texts_for
from workers.steering.view import SurfaceView


class TooMuchChurn(Failure):
    """The set changes more of the first 10 than it may; nothing was written."""


def proposed(view: SurfaceView, arm: str | None, fields: Mapping[str, str]) -> Weights:
    """The set in force with these fields changed. Raises ConfigurationError where workers would
    refuse it.
    """
    base = texts_for(view.base_of(arm))
    try:
        return view.rules.validate(base | dict(fields))
    except WeightsRefused as refused:
        raise ConfigurationError(f"weights: {refused}") from None


def look_before(
    view: SurfaceView,
    arm: str | None,
    wanted: Weights,
    sample: Sample,
    limit: float | None,
    asks: bool,
    shown: bool,
) -> None:
    """Show on standard error what the set would change, hold it against `limit`, and ask.

    Raises TooMuchChurn, and click.Abort where the answer is no.
    """
    found = preview(sample.feeds(view.surface.name), view.base_of(arm), wanted)
    if shown:
        click.echo(
            "\n".join([*preview_lines(found, view.surface.name, arm or CONTROL), ""]), err=True
        )
    if limit is not None:
        _check_churn(found.churn, limit)
    if asks:
        click.confirm("Write it?", abort=True, err=True)


def _check_churn(churn: float | None, limit: float) -> None:
    if churn is None:
        raise TooMuchChurn(
            "--limit-churn: no feed to judge by, expected some that are published; nothing was written"
        )
    if churn > limit:
        raise TooMuchChurn(
            f"--limit-churn: {churn:.4f} of the first 10 would change, expected at most {limit:g}; nothing was written"
        )
