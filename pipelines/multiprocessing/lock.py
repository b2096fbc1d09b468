from multiprocessing import current_process

from mpflow import shared


def poem():
    with shared.screen:
        print("a line is written")
        print("the next is written by me")
        print(f"now it's somebody else's turn, says {current_process().name}")
