"""`trimtab demo`."""

import click


@click.command()
def demo() -> None:
    """Show the whole of it on real posts."""
