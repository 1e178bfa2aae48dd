"""`trimtab weights preview` and `margin`: what a change would do to feeds as they are published; no
model is run.
"""

import json
from collections.abc import Iterator
from typing import Any

import click

from workers.commands.desk import DESK, as_json, of_arm, of_surface, open_surface, own_arm
from workers.commands.options import example, fields_of, settings
from workers.commands.preview_tables import (
    margin_document,
    margin_lines,
    preview_document,
    preview_lines,
)
from workers.commands.weights.proposal import proposed
from workers.commands.weights.sample import sample_of, sample_options
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.feed import Feed
from workers.ranking.margin import margins_of
from workers.ranking.preview import preview as preview_of


@click.command(
    epilog=example("trimtab weights preview home quality=0.2 engagement=0.8 --since 10m")
)
@of_surface
@click.argument("weights", metavar="OBJECTIVE=NUMBER...", nargs=-1, required=True)
@of_arm
@as_json
@sample_options
@settings(*DESK)
def preview(
    surface: str, weights: tuple[str, ...], arm: str | None, as_json: bool, **places: Any
) -> None:
    """Rank published feeds of SURFACE anew, under the weights in force and under these, and
    compare.

    Feeds carry the scores of every objective, so that no model is run, and workers publish the same
    order for the same requests. Feeds of all arms are taken.
    """
    arm, sample = own_arm(arm), sample_of(places)
    fields = fields_of(weights, "weights")
    with open_surface(surface, **places) as opened:
        view = opened.desk.read_view(opened.surface, arm)
    found = preview_of(sample.feeds(surface), view.base_of(arm), proposed(view, arm, fields))
    words = surface, arm or CONTROL
    click.echo(
        json.dumps(preview_document(found, *words))
        if as_json
        else "\n".join(preview_lines(found, *words))
    )


@click.command(
    epilog=example(
        "trimtab weights margin home --last 100", "trimtab weights margin home --request r-7f3a"
    )
)
@of_surface
@of_arm
@click.option(
    "--request", "request_id", help="Only the feed of this request, among those that are looked at."
)
@as_json
@sample_options
@settings(*DESK)
def margin(
    surface: str, arm: str | None, request_id: str | None, as_json: bool, **places: Any
) -> None:
    """How far each weight of SURFACE, alone, must move until a feed's first place changes, or its
    first 10.

    The newest feed is shown one by one, the others are summed up; with --json each has its own.
    """
    arm, sample = own_arm(arm), sample_of(places)
    with open_surface(surface, **places) as opened:
        weights = opened.desk.read_view(opened.surface, arm).base_of(arm)
    feeds = list(_only(sample.feeds(surface), request_id))
    if not feeds:
        raise Failure(
            f"{surface}: no feed {'of request ' + repr(request_id) if request_id else 'is published'}"
        )
    found = margins_of(reversed(feeds), weights, opened.surface.weight_rules.bounds)
    words = surface, arm or CONTROL
    click.echo(
        json.dumps(margin_document(found, *words))
        if as_json
        else "\n".join(margin_lines(found, *words))
    )


def _only(feeds: Iterator[Feed], request_id: str | None) -> Iterator[Feed]:
    return (feed for feed in feeds if request_id in (None, feed.request_id))
