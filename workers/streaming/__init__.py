"""Kafka: consume, transact, restore, dead letters, and the worker's loop."""
