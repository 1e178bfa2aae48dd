"""Sources, shared: half a million open candidates come from few sources, and hold one string for
each.
"""

MOST = 4096


class SourceNames(dict[str, str]):
    """`sources[s]` is the one string that equals `s`, among recent ones; past the bound it starts
    anew.
    """

    def __missing__(self, source: str) -> str:
        if len(self) >= MOST:
            self.clear()
        self[source] = source
        return source
