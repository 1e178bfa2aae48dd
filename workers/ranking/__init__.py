"""What is ranked, under which weights, and how.

Pure: no clock, no environment, no log.
"""
