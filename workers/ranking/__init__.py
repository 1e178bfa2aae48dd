"""Pure: surfaces, candidates, requests, weights, combine, rank, feeds. No clock, no environment, no
log.
"""
