"""Outcomes: what readers did with the feeds, joined and summed. Pure: no I/O and no clock."""
