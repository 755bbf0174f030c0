"""A checkpoint that keeps what it is given in memory, and counts the writes."""


class Memory:
    """A checkpoint in memory."""

    def __init__(self):
        self.content = None
        self.writes = 0

    def read(self):
        return self.content

    def write(self, content):
        self.content = content
        self.writes += 1
