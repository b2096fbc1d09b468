import time
from multiprocessing import current_process


def tasks():
    yield from range(1, 6)


def work(task, seconds):
    print(f"begins task {task}")
    time.sleep(seconds)
    return f"task {task} was done by {current_process().name}"
