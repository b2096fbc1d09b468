import signal
import time


def polite():
    print("I go on for ever, unless I am told to end")
    time.sleep(3600)


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("I go on for ever, whatever you say")
    time.sleep(3600)


def work():
    return "the work is done"
