import mpflow


def client():
    server = mpflow.connection("server")
    for number in range(1, 6):
        server.send(number)
        yield f"{number} squared is {server.recv()}"


def server():
    client = mpflow.connection("client")
    try:
        while True:
            client.send(client.recv() ** 2)
    except EOFError:
        print("the client has hung up")
