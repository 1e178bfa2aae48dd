"""Every command that steers, as the user `trimtab-ops` of deploy/acl-redis*.conf: nothing of it is
denied.
"""

from collections.abc import Callable

from tests.commands.running import Ended
from tests.rig.redis import RedisServer
from tests.steering.test_acl import log, server, stopped_server, url
from workers.steering import Follower

__all__ = ["server", "stopped_server"]

COMMANDS = (
    ("weights", "show"),
    ("weights", "set", "home", "quality=0.6", "--reason", "x"),
    ("weights", "set", "home", "--arm", "canary", "quality=0.1", "--reason", "x"),
    ("experiment", "start", "home", "canary=5"),
    ("experiment", "ramp", "home", "canary=10"),
    ("weights", "wait", "home", "--arm", "canary", "--timeout", "15"),
    ("experiment", "show", "home"),
    ("experiment", "promote", "home", "canary"),
    ("weights", "rollback", "home"),
    ("weights", "unset", "home"),
    ("weights", "history", "home"),
    ("weights", "diff", "home", "1", "now"),
    ("weights", "wait", "home", "--timeout", "15"),
    ("status",),
)


def test_ops_do_all_that_they_do_and_nothing_is_denied(
    server: RedisServer, run: Callable[..., Ended], steer: Callable[..., Follower]
) -> None:
    steer(redis_url=url(server, "trimtab-worker"))
    for words in COMMANDS:
        ended = run(*words, TRIMTAB_REDIS=url(server, "trimtab-ops"))
        assert ended.code == 0, (words, ended.err)
    assert log(server) == []
