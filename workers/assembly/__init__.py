"""Assembly: events become closed requests.

Pure: no clock, no environment, no log. Deadlines run on stream time, and `now` is a parameter.
"""
