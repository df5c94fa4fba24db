"""What the names of columns, and the words in them, usually mean."""

import re
from functools import cache

from app.learner.transaction import Status, Type

# An amount that is another than the payment's.
NO_PAYMENT = r"(refund|charge|fee|tax|vat|net|dispute|discount|tip|shipping|converted|intended)"
PAYER = r"(from|(customer|client|user|payer|shopper|buyer|consumer|cardholder)s?|billing|contact)"
PAYER_EMAIL = rf"({PAYER} )?e ?mail( address)?( billing)?"
# Roles by the names of columns, in lower case with single spaces; the likelier first.
ROLES: dict[str, tuple[str, ...]] = {
    "transaction": (
        r"(transaction|trans|txn|tx|payment|charge|event|psp)"
        r" ?(id|num|number|no|ref|reference|key|uuid)",
        # Of an order there may be several payments.
        r"id|uuid",
        r"(transaktions|buchungs|zahlungs|beleg) ?(id|nummer|nr)"
        r"|(order|receipt|invoice|voucher) ?(id|num|number|no|ref|reference|key|uuid|code)"
        r"|((numero|num|nr|no|n) )?(bestell|auftrags|rechnungs)(ung)? ?(nr|nummer)"
        r"|(numero|num|nr|no|n) (commande|pedido|ordine|zamówienia|encomenda)",
        r"reference|name|nr",
        r"order|transaction|trans|txn|charge|invoice|receipt|bestellung|auftrag|rechnung|beleg",
    ),
    "account": (
        r"(account|acct|customer|cust|client|user|member|payer|entity|holder|shopper|consumer|buyer)s?"
        r" ?(id|no|num|number|key|ref|reference)?",
        r"name ?orig|orig(in)? ?account|sender|debitor(en)?( ?(nr|nummer|konto))?"
        r"|((numer|num|nr|no|n) )?(kunde|klient|client|cliente)[aen]?( ?(nr|nummer|numero|id|no))?",
        PAYER_EMAIL,
        r"(cc|card|pan) ?(id|no|num|number|hash|token|fingerprint)?|(.* )?iban|merchant account"
        r"|konto ?(nr|nummer)?|(.* )?bank account",
    ),
    "amount": (
        r"((transaction|txn|trans|purchase|payment|gross|total|order) ?)*(amount|amt)( [a-z]{3})?",
        rf"(?!.*{NO_PAYMENT})(.* )?(amount|amt)( .*)?|amount ?cents",
        r"((order|grand|cart|invoice|purchase|transaction|payment) )?(total|gross|value|paid|betrag"
        r"|summe|umsatz|montant"
        r"|importe|importo|valor|price|kwota|bedrag|belopp)( [a-z]{3})?"
        r"|betrag in [a-z]{2,4}|umsatz ohne soll haben kz|gross sales|total (collected|paid)",
    ),
    "currency": (
        r"(transaction |gross |payment )?(currency|ccy|cur)( iso)?( code)?|w(ä|ae)hrung|devise"
        r"|moneda|wkz umsatz",
    ),
    "label": (
        r"(is|was|es|tx)? ?(fraud(e|ulent)?|frd)( ?(flag|flg|fl|label|ind|indicator|yn))?"
        r"|fraud ?bool",
        r"(event |target )?label|class|target|(is |has )?charge ?back( ?(flag|ind|indicator))?"
        r"|charged ?back|(is |has )?disputed?|cbk|betrug|frode|oszustwo",
    ),
    "merchant": (
        r"merchant( ?(id|name|no|number))?|(shop|store|seller|vendor|payee)( ?(id|name))?",
        r"name ?dest|h(ä|ae)ndler|kartenakzeptant",
    ),
    "device": (r"device ?(id|fingerprint|hash)",),
    "ip": (rf"({PAYER} |source |browser )?ip( ?addr(ess)?)?|remote( ?addr(ess)?)?",),
    "card": (r"(cc|(credit )?card|pan) ?(id|no|num|number|hash|token|fingerprint)",),
    "email": (PAYER_EMAIL,),
    "merchant_category": (r"mcc|(merchant )?category( code)?|kategorie",),
    "channel": (r"channel|entry ?mode|use ?chip|kanal",),
    "country": (r"(ip |card |billing |merchant |issuer )?(country|land)( code)?( billing)?|pays",),
    "type": (
        r"((transaction|txn|payment|record|event|entry|balance|action) ?)*(type|kind)|typ|art",
        r"reporting category",
    ),
    "status": (r"(transaction |payment |order |financial )?(status|state|result|outcome)",),
    "zone": (r"(.* )?(time ?zone|tz)( ?name)?|zone",),
    "delay": (r".*label ?delay.*|(report|chargeback|dispute) ?delay.*",),
    "fraud_kind": (r"fraud ?(kind|type|scenario|category)",),
}
# Roles that the last part of a nested name says by itself.
ALONE = {"email", "ip", "device", "delay", "zone"}
TIME = re.compile(
    r"(?i).*(time|date|datum|zeit|fecha|created|occurred|posted|timestamp|heure|data|hora|stunde).*"
    r"|(.* )?(at|on|ts|dt)|step|day|hour|tag|month|year|monat|jahr|created.*"
)
# Of columns of times: those of the payment itself, and those of what comes before or after it.
PAID_AT = re.compile(
    r"(.* )?(created|occurred|event|purchased?|ordered|order|placed|transaction|trans|txn|tx"
    r"|payment|sale|started|initiated|submit(ted)?|request(ed)?|booking|buchungs?|posting"
    r"|authori[sz](ed|ation))( .*)?"
    r"|(time|date|datetime|timestamp|datum|buchungstag|fecha|data)( of payment)?"
)
ANOTHER_TIME = re.compile(
    r"(.* )?(valuta(datum)?|value|settle(d|ment)?|available|payout|captured?|due|birth|dob|born"
    r"|sign ?up|signed|registered|registration|expir(y|es|ation|ed)|updated|modified|completed"
    r"|completion|closed|refunded|disputed?|charge ?back|shipped|delivered|first|last|end"
    r"|disbursement|member|opened|since|deleted|cancell?ed)( .*)?"
    rf"|(.* )?({PAYER}|account|acct|device|merchant|seller) (created|since|opened)( .*)?"
)
# Only known once somebody has judged a payment, or once it went through.
LEAK = re.compile(
    r"(?i).*(fraud|\bfrd\b|charged? ?back|betrug|oszust|frode|payout|dispute|risk|score|review"
    r"|decision"
    r"|rembours|reembols|devoluci|erstattet|r(ü|ue)ck(buch|last)|rimbors|zwrot|impay|contracargo"
    r"|flag|\bflg\b|refund|investigat|stolen|resolution|label|blocked|loss).*"
    r"|(is )?(captured|approved|declined|settled|authori[sz]ed|refused|voided|cancell?ed)"
    r"|(.* )?(response|reason|error|decline|failure|refusal|result|return)"
    r"( (code|reason|message|text|type))?"
    r"|(running |account )?balance|saldo|new ?balance.*|.*(after|closing|new) ?bal(ance|\b).*"
)

# A column that is filled, or has a word, once there is a dispute.
DISPUTE = re.compile(
    r"(?i).*(charged? ?backs?|dispute|fraud|frode|betrug|oszust|r(ü|ue)cklast|contracargo|impay).*"
)

FRAUD = {
    "1",
    "1.0",
    "true",
    "t",
    "yes",
    "y",
    "fraud",
    "fraudulent",
    "chargeback",
    "ja",
    "betrug",
    *("si", "sí", "sì", "sim", "oui", "tak", "fraude", "confirmed fraud"),
    # As spreadsheets write TRUE in German, French, Spanish, Italian, Portuguese, Polish and Dutch.
    *("wahr", "vrai", "verdadero", "vero", "verdadeiro", "prawda", "waar"),
}
# Words that say what was fraud whatever their column is called.
ACCUSING = {
    *("fraud", "fraudulent", "confirmed fraud", "chargeback", "charged back", "chargedback"),
    *("dispute", "disputed", "dispute lost", "scam", "stolen", "betrug", "rückbuchung"),
}
LEGITIMATE = {
    *("0", "0.0", "false", "f", "no", "n", "legit", "legitimate", "genuine", "nonfraud", "ok"),
    *("falsch", "faux", "falso", "fałsz", "onwaar", "safe"),
    *("nie", "não", "nao", "cleared", "clean", "confirmed legitimate"),
    *("non-fraud", "not fraud", "not_fraud", "notfraud", "good", "nein", "non", "normal", "valid"),
}
# Columns of the sides of a ledger.
SIDE = re.compile(
    r".*\b(debit|credit|dr|cr|drcr|dc|d c|cd|s h|soll|haben|side|sign|indicator|type)\b.*"
)
DEBIT_COLUMN = re.compile(
    r".*\b(debit|débit|withdrawals?|withdrawn|soll|debe|money out|paid out)\b.*"
)
CREDIT_COLUMN = re.compile(r".*\b(credit|crédit|deposits?|haben|haber|money in|paid in)\b.*")
UNKNOWN = {"unknown", "pending", "unlabelled", "unlabeled", "none", "null", "na", "n/a", "?", "-"}
MISSING = {"null", "n/a", "na", "nan", "none", "\\n", "-", "#n/a", "nil", "(null)"}

# Words that say by themselves that a row pays something back; "credit" and "refunded" say other
# things, too: of a card, and of what became of a payment.
REFUNDS = {
    *("refund", "return", "rückerstattung", "erstattung", "remboursement", "reembolso"),
    *("devolución", "estorno", "rimborso", "zwrot"),
}
TYPES: dict[str, Type] = {
    **dict.fromkeys(REFUNDS, "refund"),
    **dict.fromkeys(("zahlung", "paiement", "pago", "pagamento", "płatność"), "payment"),
    **dict.fromkeys(("payment", "sale", "charge", "purchase", "debit", "pos", "order"), "payment"),
    **dict.fromkeys(("capture", "captured", "settled", "card payment", "card_payment"), "payment"),
    **dict.fromkeys(("refunded", "reversal", "credit"), "refund"),
    **dict.fromkeys(("withdrawal", "cash_out", "atm", "cash out"), "withdrawal"),
    **dict.fromkeys(("transfer", "wire"), "transfer"),
    **dict.fromkeys(("verification", "account verification", "card check"), "verification"),
}
# A row of a payment that was taken back by the payer's bank.
CHARGEBACK = re.compile(
    r"((first|second|third|1st|2nd|payment|card|customer) ?)?"
    r"(charge ?backs?|dispute[ds]?|r(ü|ue)cklastschrift)"
    r"( (debit|withdrawn|created|received|opened|lost|withdrawal))?"
)
# Movements of a shop's own money, which exports of payment services list beside the payments.
OWN_MONEY = re.compile(
    r"(?i).*(payout|\bfees?\b|adjustment|\breserve|currency conversion|account hold|withdraw funds"
    r"|bank deposit|balance ?transfer|invoice ?deduction|deposit ?correction|top ?-?up"
    r"|(charge ?back|dispute).*(revers|won|fee|refund)).*"
)
STATUSES: dict[str, Status] = {
    **dict.fromkeys(
        (
            "authorised",
            "authorized",
            "paid",
            "succeeded",
            "success",
            "captured",
            "approved",
            "completed",
            "complete",
            "settled",
            "settled successfully",
            "successful",
            "paidout",
            "paid_out",
        ),
        "authorised",
    ),
    **dict.fromkeys(
        ("declined", "decline", "failed", "refused", "rejected", "failure"), "declined"
    ),
    **dict.fromkeys(("reversed", "voided", "cancelled", "canceled", "void"), "reversed"),
    **dict.fromkeys(("refunded",), "refunded"),
}

# Abbreviations that mean one offset wherever they are used; CST, IST and BST are not among them.
ZONES = {
    "PST": "-08:00",
    "PDT": "-07:00",
    "MST": "-07:00",
    "MDT": "-06:00",
    "CDT": "-05:00",
    "EST": "-05:00",
    "EDT": "-04:00",
    "CET": "+01:00",
    "CEST": "+02:00",
    "EET": "+02:00",
    "EEST": "+03:00",
    "WET": "+00:00",
    "WEST": "+01:00",
    "JST": "+09:00",
    "AEST": "+10:00",
    "AEDT": "+11:00",
    "MSK": "+03:00",
    "SGT": "+08:00",
    "Z": "UTC",
}
# Standard times of places that have a summer time: written in July, they may mean the place.
PLACES = {"PST": "America/Los_Angeles", "EST": "America/New_York", "CET": "Europe/Berlin"}
PLACES |= {
    f"{name} TIME (US & CANADA)": place
    for name, place in (
        ("EASTERN", "America/New_York"),
        ("CENTRAL", "America/Chicago"),
        ("MOUNTAIN", "America/Denver"),
        ("PACIFIC", "America/Los_Angeles"),
    )
}
PLACES |= {"MST": "America/Denver", "EET": "Europe/Helsinki", "WET": "Europe/Lisbon"}

# What a place calls its winter and its summer.
SEASONS = {
    frozenset(("PST", "PDT")): "America/Los_Angeles",
    frozenset(("MST", "MDT")): "America/Denver",
    frozenset(("CST", "CDT")): "America/Chicago",
    frozenset(("EST", "EDT")): "America/New_York",
    frozenset(("CET", "CEST")): "Europe/Berlin",
    frozenset(("EET", "EEST")): "Europe/Helsinki",
    frozenset(("WET", "WEST")): "Europe/Lisbon",
    frozenset(("GMT", "BST")): "Europe/London",
    frozenset(("AEST", "AEDT")): "Australia/Sydney",
}
# What programs call the number of a row.
ROW_NUMBER = re.compile(r"(unnamed|index level|level) ?\d+|index|row ?(id|no|num|number|index)?")

SIGNS = {"€": "EUR", "£": "GBP", "₹": "INR", "zł": "PLN", "R$": "BRL", "US$": "USD", "CHF": "CHF"}
SIGNS |= {"₩": "KRW", "₺": "TRY", "₽": "RUB", "Kč": "CZK", "C$": "CAD", "A$": "AUD", "Ft": "HUF"}
SIGNS |= {"US $": "USD", "C $": "CAD", "AU $": "AUD", "Euro": "EUR", "euro": "EUR"}
SIGNS |= {"円": "JPY", "元": "CNY"}
# In the names of columns, where three letters are often a word.
USUAL_CODES = {
    *("usd", "eur", "gbp", "chf", "jpy", "inr", "brl", "pln", "cad", "aud", "sek", "nok", "dkk"),
    *("czk", "huf", "cny", "mxn"),
}
OF_SEVERAL = {
    "$": ("USD", "CAD", "AUD", "MXN"),
    "¥": ("JPY", "CNY"),
    "￥": ("JPY", "CNY"),
    "kr": ("SEK", "NOK", "DKK"),
}
OF_SEVERAL |= {"kr.": ("DKK", "NOK", "SEK"), "Rs.": ("INR", "PKR"), "Rs": ("INR", "PKR")}


@cache
def plain(name: str) -> str:
    """A column's name in lower case, its words apart: "transDate_Time?" is "trans date time"."""
    apart = re.sub(r"([a-z])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    # A dollar before a word is no sign of a currency, but of a field: $amount.
    apart = re.sub(r"(^|[^\w])\$(?=[a-z])", r"\1", apart.lower())
    return " ".join(re.sub(r"[^0-9a-zà-ÿ$]+", " ", apart).split())


def is_paid_at(column: str) -> int:
    """How likely a column of times is that of the payment: 0 is likeliest."""
    name = plain(column)
    if ANOTHER_TIME.fullmatch(name):
        return 2
    return 0 if PAID_AT.fullmatch(name) else 1


@cache
def rank(role: str, column: str) -> int | None:
    """How likely a column has a role by its name: 0 is likeliest, None where it is not."""
    found = [n for name in _spellings(role, column) if (n := _rank(role, name)) is not None]
    return found[0] if found else None


def _spellings(role: str, column: str) -> list[str]:
    """The whole name, and of a nested one the ends that say the same: `method.card.country`."""
    parts = column.split(".")
    least = 1 if role in ALONE else 2
    return [".".join(parts[first:]) for first in range(max(len(parts) - least + 1, 1))]


def _rank(role: str, column: str) -> int | None:
    name = plain(column)
    joined = name.replace(" ", "")
    for n, pattern in enumerate(ROLES[role]):
        if re.fullmatch(pattern, name) or re.fullmatch(pattern, joined):
            return n
    return None
