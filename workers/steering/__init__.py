"""Steering: weights, pinned models and experiments as Redis has them now. The ranking thread reads
them without ever touching Redis.
"""

from workers.steering.connection import OnEvent
from workers.steering.follower import Follower

__all__ = ["Follower", "OnEvent"]
