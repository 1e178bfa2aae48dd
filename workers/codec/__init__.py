"""From bytes to values and back. This package alone knows the wire formats: JSON and Protobuf
events and feeds, dead letters, the pointer in an offset's metadata, and files of events.
"""
