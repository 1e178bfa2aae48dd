"""Tests of `trimtab outcomes`."""
