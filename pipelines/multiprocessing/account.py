def amounts():
    yield from [50, -30, 5]


class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def __call__(self, amount):
        self.balance += amount
        return f"{amount:+} makes {self.balance}"

    def close(self):
        print(f"{self.owner} has {self.balance} in the end")
