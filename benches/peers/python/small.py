"""Three stages of small objects: a source, two workers, a sink.

The functions are what the engine's pipeline runs. As a program this is the same by hand:

    small.py CONTENDER KIND COUNT

`queue` puts one record at a time on a `multiprocessing.Queue`, `lists` 1000 of them, which is what whoever finds that
slow writes next, and `imap` and `chunks` are a Pool's `imap_unordered` with chunks of 1 and of 1000. All print how many
results there were, and their sum.
"""

import sys

LIST = 1000


def integers(count):
    yield from range(count)


def objects(count):
    for number in range(count):
        yield {"id": number, "name": "a record", "value": number / 2}


def square(number):
    return number * number % 1009


def change(record):
    return {"id": record["id"], "name": record["name"], "value": record["value"] + 1}


def total_of_integers(records):
    count = total = 0
    for number in records:
        count += 1
        total += number
    yield f"{count} {total}"


def total_of_objects(records):
    count = total = 0
    for record in records:
        count += 1
        total += record["id"]
    yield f"{count} {total}"


KINDS = {"integers": (integers, square, total_of_integers), "objects": (objects, change, total_of_objects)}


# By hand. None says that no more will come.


def _source(kind, count, out):
    for record in KINDS[kind][0](count):
        out.put(record)
    for _ in range(2):
        out.put(None)


def _worker(kind, records, out):
    function = KINDS[kind][1]
    for record in iter(records.get, None):
        out.put(function(record))
    out.put(None)


def _source_of_lists(kind, count, out):
    from itertools import islice

    records = KINDS[kind][0](count)
    while part := list(islice(records, LIST)):
        out.put(part)
    for _ in range(2):
        out.put(None)


def _worker_on_lists(kind, records, out):
    function = KINDS[kind][1]
    for part in iter(records.get, None):
        out.put([function(record) for record in part])
    out.put(None)


def _results(queue):
    ends = 0
    while ends < 2:
        result = queue.get()
        if result is None:
            ends += 1
        else:
            yield result


def _by_hand(kind, count, source, worker):
    from multiprocessing import Process, Queue

    # Bounded, as the engine's queues are.
    first, second = Queue(1000), Queue(1000)
    processes = [Process(target=source, args=(kind, count, first), daemon=True)]
    processes += [Process(target=worker, args=(kind, first, second), daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    yield from _results(second)
    for process in processes:
        process.join()


def _by_pool(kind, count, size):
    from multiprocessing import Pool

    with Pool(2) as pool:
        yield from pool.imap_unordered(KINDS[kind][1], KINDS[kind][0](count), size)


def main(contender, kind, count):
    if contender == "queue":
        results = _by_hand(kind, count, _source, _worker)
    elif contender == "lists":
        from itertools import chain

        results = chain.from_iterable(_by_hand(kind, count, _source_of_lists, _worker_on_lists))
    else:
        results = _by_pool(kind, count, {"imap": 1, "chunks": LIST}[contender])
    print(*KINDS[kind][2](results))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
