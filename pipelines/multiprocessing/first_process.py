import os


def child():
    print("hello from a process of my own")
    return f"I am process {os.getpid()}, and my parent is {os.getppid()}"
