"""Steering: the weights as Redis has them now, read by the ranking thread without ever touching
Redis.
"""

from workers.steering.connection import OnEvent
from workers.steering.follower import Follower

__all__ = ["Follower", "OnEvent"]
