"""What several handlers of the package share."""


def cents(amount):
    return round(float(amount) * 100)
