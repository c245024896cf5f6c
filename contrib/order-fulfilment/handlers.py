"""The handlers of order_fulfilment: what each step does, some written as functions, some as classes.

Nothing outside is called; a short wait stands for the shop's services and the warehouse. What goes wrong follows from the order
alone, so that every run looks the same: an order that cannot be fulfilled fails for good, and the carrier's interface
refuses some orders once or twice before it takes them.
"""

import hashlib
import re
import time
from decimal import ROUND_HALF_UP, Decimal

from taskerd import PermanentError, RetryableError, StepHandler
from taskerd.step_handler.functional import depends_on, inputs, step_handler

# Stock number: name, price in euro cents, weight in grams, pieces on the shelf.
CATALOGUE = {
    "TEA-0101": ("Assam, 250 g", 890, 280, 4000),
    "TEA-0102": ("Sencha, 100 g", 1190, 130, 2500),
    "TEA-0203": ("Rooibos, 500 g", 1090, 540, 3000),
    "POT-1001": ("Cast iron teapot, 0.8 l", 5900, 1850, 400),
    "POT-1002": ("Glass teapot, 1.2 l", 3450, 760, 600),
    "CUP-1101": ("Cup, stoneware", 1250, 310, 2000),
    "CUP-1102": ("Cup, porcelain, set of 6", 4800, 1500, 300),
    "TIN-1201": ("Tin with lid", 690, 120, 5000),
    "BAM-1301": ("Bamboo whisk", 1690, 45, 800),
    "BOX-1401": ("Gift box, large", 990, 620, 1500),
}
RATES = {"EUR": Decimal("1"), "GBP": Decimal("0.86"), "CHF": Decimal("0.95"), "SEK": Decimal("11.30"), "PLN": Decimal("4.28"),
         "JPY": Decimal("162")}
TAX = {"DE": 19, "FR": 20, "IT": 22, "ES": 21, "NL": 21, "SE": 25, "PL": 23, "IE": 23, "AT": 20}  # per cent; exports have none
ZONES = {"DE": 1, "AT": 1, "NL": 1, "FR": 2, "IT": 2, "ES": 2, "PL": 2, "SE": 2, "IE": 2, "GB": 3, "CH": 3, "JP": 4, "US": 4, "AU": 4}
CARRIERS = {  # name: farthest zone, days, euro cents for a parcel, per started kilogram
    "rad-kurier": (1, 1, 790, 250),
    "post": (4, 6, 450, 320),
    "air-parcel": (4, 3, 1400, 610),
}


def work(order_id, step, least_ms=8, most_ms=70):
    """Wait as long as this step of this order always takes."""
    time.sleep((least_ms + chance(order_id, step) * (most_ms - least_ms)) / 1000)


def chance(*key):
    """A number from 0 to 1 that follows from the key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "big") / 2**32


def cents(amount):
    return int(Decimal(amount).quantize(Decimal(1), rounding=ROUND_HALF_UP))


class ValidateOrder(StepHandler):
    """Refuse what no later step could do anything about. Trying again would not help, so these errors are permanent."""

    handler_name = "orders.validate_order"

    def call(self, context):
        order = context.input_data
        work(order["order_id"], "validate")
        if not order["items"]:
            return self.failure("the order has no items", error_type="validation_error", retryable=False)
        for item in order["items"]:
            if item["sku"] not in CATALOGUE:
                raise PermanentError(f"no such article: {item['sku']}", error_code="UNKNOWN_SKU")
            if item["quantity"] < 1:
                raise PermanentError(f"{item['sku']}: quantity {item['quantity']}", error_code="BAD_QUANTITY")
        if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", order["email"]):
            raise PermanentError(f"not an e-mail address: {order['email']!r}", error_code="BAD_EMAIL")
        # The same article twice in one order is one line for everything that follows.
        lines = {}
        for item in order["items"]:
            lines[item["sku"]] = lines.get(item["sku"], 0) + item["quantity"]
        return self.success({"lines": [{"sku": s, "quantity": q} for s, q in lines.items()]},
                            metadata={"note_characters": len(order.get("note") or "")})


@step_handler("orders.check_fraud")
@inputs("order_id", "email", "country")
def check_fraud(order_id, email, country, context):
    work(order_id, "fraud", 20, 110)
    score = int(chance(email) * 60) + (10 if ZONES.get(country, 9) > 3 else 0) + (15 if email.count(".") > 3 else 0)
    if score > context.get_config("refuse_above"):
        raise PermanentError(f"risk score {score}", error_code="RISK")
    return {"score": score, "review": score > 70}


@step_handler("orders.price_order")
@depends_on(order="validate_order")
@inputs("order_id", "currency", "country")
def price_order(order, order_id, currency, country):
    work(order_id, "price")
    net = sum(CATALOGUE[line["sku"]][1] * line["quantity"] for line in order["lines"])
    discount = net // 10 if net > 30000 else 0
    tax = cents(Decimal(net - discount) * TAX.get(country, 0) / 100)
    return {"net": net, "discount": discount, "tax": tax, "total": net - discount + tax,
            "currency": currency, "total_in_currency": cents((net - discount + tax) * RATES[currency])}


class ReserveStock(StepHandler):
    handler_name = "orders.reserve_stock"

    def call(self, context):
        order_id = context.get_input("order_id")
        work(order_id, "reserve", 15, 80)
        lines = context.get_dependency_field("validate_order", "lines")
        short = [line["sku"] for line in lines if line["quantity"] > CATALOGUE[line["sku"]][3]]
        if short:
            raise PermanentError("not enough in stock: " + ", ".join(short), error_code="OUT_OF_STOCK")
        shelf = [f"{line['sku'][:3]}-{int(chance(line['sku']) * 40) + 1:02}" for line in lines]
        return self.success({"reservation": f"R-{order_id}", "shelves": sorted(set(shelf))})


class Payment(StepHandler):
    """Two steps, one class: the template names the method."""

    handler_name = "orders.payment"

    def call(self, context):
        return self.failure("the template names no method", retryable=False)

    def authorize(self, context):
        price = context.get_dependency_result("price_order")
        work(context.get_input("order_id"), "authorize", 30, 130)
        return self.success({"authorization": f"A-{chance(context.get_input('order_id'), 'auth'):.10f}"[2:],
                             "amount": price["total_in_currency"], "currency": price["currency"],
                             "manual_review": context.get_dependency_field("check_fraud", "review")})

    def capture(self, context):
        # All results of earlier steps are at hand, not only those of direct parents.
        authorized = context.get_dependency_result("authorize_payment")
        work(context.get_input("order_id"), "capture", 20, 90)
        return self.success({"captured": authorized["amount"], "currency": authorized["currency"]})


@step_handler("orders.choose_carrier")
@depends_on(order="validate_order")
@inputs("order_id", "country", "express")
def choose_carrier(order, order_id, country, express):
    work(order_id, "carrier")
    zone = ZONES.get(country)
    grams = sum(CATALOGUE[line["sku"]][2] * line["quantity"] for line in order["lines"])
    fitting = [(base + per_kg * (grams // 1000 + 1), name) for name, (reach, days, base, per_kg) in CARRIERS.items()
               if zone and zone <= reach and (days <= 3 or not express)]
    if not fitting:
        raise PermanentError(f"no carrier delivers to {country}", error_code="NO_CARRIER")
    cost, name = min(fitting)
    return {"carrier": name, "cost": cost, "grams": grams}


@step_handler("orders.pick_items")
@depends_on(stock="reserve_stock", order="validate_order")
@inputs("order_id")
def pick_items(stock, order, order_id):
    pieces = sum(line["quantity"] for line in order["lines"])
    work(order_id, "pick", 30, 140)
    return {"pieces": pieces, "route": " > ".join(stock["shelves"])}


@step_handler("orders.pack_parcel")
@depends_on(picked="pick_items", carrier="choose_carrier")
@inputs("order_id", "note")
def pack_parcel(picked, carrier, order_id, note, context):
    work(order_id, "pack", 20, 100)
    boxes = context.get_config("boxes_g")
    box = next((name for name, most in boxes.items() if carrier["grams"] <= most), "pallet")
    return {"box": box, "pieces": picked["pieces"], "grams": carrier["grams"] + 150, "card": (note or "")[:200]}


@step_handler("orders.book_carrier")
@depends_on(carrier="choose_carrier", parcel="pack_parcel")
@inputs("order_id")
def book_carrier(carrier, parcel, order_id, context):
    """An interface as carriers have them: it times out, and it limits how often it is called."""
    work(order_id, "book", 25, 120)
    luck = chance(order_id, "carrier's mood")
    refusals = 2 if luck < 0.05 else 1 if luck < 0.25 else 0
    if context.retry_count < refusals:
        if luck < 0.15:
            raise RetryableError(f"{carrier['carrier']}: too many requests", retry_after=1, error_code="HTTP_429")
        raise RetryableError(f"{carrier['carrier']}: no answer", error_code="HTTP_504")
    return {"carrier": carrier["carrier"], "tracking": f"{carrier['carrier'][:2].upper()}{int(chance(order_id) * 1e9):09}",
            "tries": context.retry_count + 1, "box": parcel["box"]}


@step_handler("orders.issue_invoice")
@depends_on(price="price_order", paid="capture_payment")
@inputs("order_id", "customer")
def issue_invoice(price, paid, order_id, customer):
    work(order_id, "invoice")
    if paid["captured"] != price["total_in_currency"]:
        raise PermanentError("captured amount and price differ", error_code="AMOUNT_MISMATCH")
    return {"invoice": f"I-{order_id}", "to": customer, "total": price["total"], "tax": price["tax"]}


class SendConfirmation(StepHandler):
    handler_name = "orders.send_confirmation"

    def call(self, context):
        order = context.input_data
        work(order["order_id"], "mail", 5, 40)
        return self.success({"to": order["email"], "invoice": context.get_dependency_field("issue_invoice", "invoice"),
                             "tracking": context.get_dependency_field("book_carrier", "tracking")})
