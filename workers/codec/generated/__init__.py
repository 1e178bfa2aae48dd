"""Made by `python schemas/generate.py` from schemas/*.proto; never edited by hand."""
