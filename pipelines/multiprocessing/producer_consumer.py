import time
from multiprocessing import current_process


def producer():
    for number in range(1, 11):
        yield {"item": number}


def consumer(record):
    time.sleep(0.05)
    return f"{current_process().name} used item {record['item']}"
