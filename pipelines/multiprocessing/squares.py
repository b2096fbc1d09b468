def numbers(first, last):
    yield from range(first, last + 1)


def square(number):
    return number * number
