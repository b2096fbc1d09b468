def pairs():
    for exponent in range(8, 13):
        yield 2, exponent
    yield {"base": 3, "exponent": 7}


def power(base, exponent, modulus):
    return f"{base} to the power of {exponent} modulo {modulus} is {pow(base, exponent, modulus)}"
