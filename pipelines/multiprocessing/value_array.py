import os

from mpflow import shared


def work():
    rank = int(os.environ["MPFLOW_RANK"])
    for _ in range(1000):
        shared.hits.add(1)
    shared.rows[rank] = rank / 2


def show():
    yield f"hits: {shared.hits.value}"
    yield f"rows: {list(shared.rows)}"
