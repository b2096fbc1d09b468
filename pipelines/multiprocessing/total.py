def total(numbers):
    numbers = list(numbers)
    yield f"{len(numbers)} squares, whose sum is {sum(numbers)}"
