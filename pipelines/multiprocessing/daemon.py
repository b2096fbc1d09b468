import time


def background():
    while True:
        print("still here")
        time.sleep(0.05)


def foreground():
    for number in range(1, 6):
        yield f"step {number} of 5"
        time.sleep(0.05)
