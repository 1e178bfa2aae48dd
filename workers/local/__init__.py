"""A real Kafka and a real Redis on this machine, started and ended by one command, for a first
look and for tests.

`Stack(home, cache)` is the whole of it; nothing here is used where Kafka and Redis exist already.
"""

from workers.local.errors import StackError
from workers.local.stack import Stack, StackAddresses
from workers.local.status import ServerStatus, StackStatus

__all__ = ["Stack", "StackAddresses", "StackError", "StackStatus", "ServerStatus"]
