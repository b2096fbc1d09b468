import mpflow


def sender():
    receiver = mpflow.connection("receiver")
    receiver.send("hello")
    receiver.send([1, 2, 3])
    receiver.send({"a": 1})


def receiver():
    sender = mpflow.connection("sender")
    try:
        while True:
            yield f"received {sender.recv()}"
    except EOFError:
        yield "the sender has ended"
