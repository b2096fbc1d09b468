class Show:
    """Ten results in a line."""

    def __init__(self):
        self.results = []

    def __call__(self, result):
        self.results.append(str(result))
        if len(self.results) == 10:
            line, self.results = self.results, []
            return " ".join(line)
