def writer():
    for letter in "abcde":
        yield f"message {letter}"


def reader(messages):
    count = 0
    for message in messages:
        count += 1
        yield f"read {message}"
    yield f"the writer is done after {count} messages"
