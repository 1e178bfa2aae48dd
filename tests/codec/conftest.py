"""Examples have no time limit: the machine may be busy."""

from hypothesis import settings

settings.register_profile("codec", deadline=None)
settings.load_profile("codec")
