"""A real Kafka and a real Redis on this machine, for a first look and for tests.

`Stack(home, cache)` starts and stops both. Nothing here is used if Kafka and Redis exist already.

- `stack`: up, down, status, and the faults that tests inject.
- `kafka_server`, `redis_server`: how each of the two is prepared and asked whether it answers.
- `server`: what both have in common: ports, starting, waiting for the first answer.
- `jars`: fetches Kafka. `topics`: the topics and their settings.
- `processes`: processes that outlive the command that started them.
- `state`: the file and the lock that all commands on one stack share.
"""

from workers.local.server import StackError
from workers.local.stack import ServerStatus, Stack, StackAddresses, StackStatus

__all__ = ["Stack", "StackAddresses", "StackError", "StackStatus", "ServerStatus"]
