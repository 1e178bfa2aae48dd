"""Recipes: models trained elsewhere, exported so that `trimtab models new` takes them. README.md
shows their use.
"""
