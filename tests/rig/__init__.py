"""What integration tests, the benchmark and the trials run on. They keep only what they do or measure.

- `environment.py`: topics, files, settings and processes of one test. `measured.py` makes one for
  measurements, `fixtures.py` one for a pytest test.
- `process.py`: a process that is started, frozen, killed, waited for.
- `servers.py`: Kafka and Redis for what runs outside of pytest. `redis.py`: a Redis of one's own.
- `traffic.py`: requests and streams of them. `kills.py`: streams under kills.
- `readers.py`: simulated readers, who write interactions. `outcome_runs.py`: outcomes under kills.
- `topics.py`: reads a topic. `statuses.py`: reads what workers report. `progress.py`: reads what a
  group has committed.
- `oracle.py`: computes what a feed must be, apart from the workers' code. `judge.py`: nothing is
  lost, doubled or wrong. `outcome_judge.py`: the same of outcomes, by tests/outcomes/oracle.py.
- `background.py`, `machine.py`, `times.py`: measure in processes of their own.
- `server_mark.py`: marks the tests that need a server.

For another kind of process, add its topics to `Environment.create_topics`, its settings to
`Environment.settings`, and a method that starts it beside `start_worker`. For its output, add an
oracle beside `oracle.py` and a `check_` function to `judge.py`; `judge.count` finds what is lost or
doubled among any keys.
"""
