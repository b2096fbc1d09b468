import os


def root():
    yield list(range(1, 101))


def rank(data):
    rank, size = int(os.environ["MPFLOW_RANK"]), int(os.environ["MPFLOW_POOL"])
    part = data[rank::size]
    return rank, sum(part)


def gather(results):
    yield f"gathered: {sorted(results)}"


def reduce(results):
    yield f"reduced: {sum(partial for _, partial in results)}"
