"""Trimtab: streaming ranking workers. Data flows decode -> assemble -> score -> combine -> rank ->
publish.
"""
