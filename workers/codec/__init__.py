"""Bytes <-> values: the sole owner of the wire format. JSON, Protobuf, dead letters, the pointer,
files of events.
"""
