"""Steering: the weights as Redis has them now, read by the ranking thread without ever touching Redis."""

from workers.steering.events import OnEvent
from workers.steering.steering import Steering

__all__ = ["Steering", "OnEvent"]
