import sys
import time


def returns():
    print("all is well")


def raises():
    raise ValueError("this goes wrong")


def exits():
    sys.exit(3)


def endless():
    while True:
        time.sleep(0.05)
