"""The demo of this repository: real posts become ranked feeds on a real Kafka. `make demo` runs it.

It is not part of the installed package. To change what it

- shows, and in which order: `script.py`, and `operations.py` for the commands of an operator,
- prints: `terminal.py`,
- counts and claims: `audit.py`,
- sends and reads: `traffic.py`,
- uses as posts, models and weights: `fixtures.py`,
- starts and ends: `environment.py`.

`make demo ARGS=--outcomes` shows an experiment instead. Its own modules are `outcomes_script.py`,
`outcomes_fixtures.py`, `outcomes_audit.py`, `taste.py` and `readers.py`.
"""
