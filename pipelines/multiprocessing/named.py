from multiprocessing import current_process


def greet(words, to="everybody"):
    return f"{current_process().name} says {words} to {to}"
