"""Transactions as columns, and the spec that says where a file keeps each part."""

import tomllib
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.learner.columns import columns_of
from app.learner.spec import DatasetSpec, built_in_specs
from app.learner.transaction import (
    ASIDE,
    CATEGORY_CODES,
    DAY_US,
    ENTITY_FIELDS,
    MISSING,
    NO_ENTITY,
    REFUSED,
    SPENT,
    TRIED,
    UNDECIDED,
    Transaction,
    category_code,
    category_text,
    entity_code,
    standing_of,
)
from app.scoring.schemas import PostedTransaction, StoredTransaction

TOML = """
name = "shop"

[columns]
transaction = "id"
account = "card"
time = "at"
amount = "paid"

[label]
delay_days = 0.5

[entities]
merchant = "shop"
wallet = "purse"
device = "phone"

[categorical]
channel = "channel"
colour = "colour"

[numeric]
age = "age"
"""


def spec(text: str = TOML) -> DatasetSpec:
    return DatasetSpec.model_validate(tomllib.loads(text))


def refusal(path_or_name: str | Path) -> str:
    with pytest.raises(ValueError, match=r"^spec ") as caught:
        DatasetSpec.load(path_or_name)
    return str(caught.value).removeprefix(f"spec {path_or_name}: ")


def test_a_spec_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(TOML)
    loaded = DatasetSpec.load(path)
    assert loaded == DatasetSpec.load(str(path)) == spec()
    assert loaded.entity_names == ("device", "merchant", "wallet")
    assert loaded.categorical_names == ("channel", "colour")
    assert loaded.numeric_names == ("age",)
    assert loaded.label.delay_us == DAY_US // 2


def test_the_built_in_specs_load_by_name() -> None:
    assert {"handbook", "simulated"} <= set(built_in_specs())
    for name in built_in_specs():
        assert DatasetSpec.load(name).name == name


def test_the_handbook_spec_holds_the_four_folds() -> None:
    backtest = DatasetSpec.load("handbook").backtest
    assert [start[:10] for start in map(str, backtest.test_starts)] == [
        "2018-08-08",
        "2018-08-15",
        "2018-08-22",
        "2018-08-29",
    ]
    assert (backtest.train_days, backtest.test_days, backtest.unseen_share) == (7, 7, 0.35)
    assert DatasetSpec.load("handbook").label.delay_us == 7 * DAY_US


def test_an_unknown_spec_names_those_there_are(tmp_path: Path) -> None:
    for absent in ("handbok", str(tmp_path / "absent.toml")):
        message = refusal(absent)
        assert message.startswith("no such file")
        assert "handbook" in message
        assert "simulated" in message


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("account =", "acount ="), "columns.account"),
        (('amount = "paid"', 'amount = "paid"\nmerchants = "shop"'), "columns.merchants"),
        (('wallet = "purse"', 'Wallet = "purse"'), "entities.Wallet"),
        (('wallet = "purse"', "\n".join(f'kind{n} = "c"' for n in range(7))), "entities"),
        (("[numeric]", "[numerics]"), "numerics"),
        (("delay_days = 0.5", "delay_days = -1"), "label.delay_days"),
        (("delay_days = 0.5", 'delay_days = "week"'), "label.delay_days"),
        (('age = "age"', 'colour = "age"'), "colour"),
        (('age = "age"', 'country = "age"'), "country"),
        (('colour = "colour"', 'merchant_id = "colour"'), "merchant_id is named under [entities]"),
        (('age = "age"', 'ip_address = "age"'), "ip_address is named under [entities]"),
        (('name = "shop"', ""), "name"),
        (('age = "age"', "age = 3"), "numeric.age"),
    ],
)
def test_a_wrong_spec_is_refused_with_one_sentence_that_names_the_key(
    tmp_path: Path, change: tuple[str, str], names: str
) -> None:
    path = tmp_path / "bad.toml"
    assert change[0] in TOML
    path.write_text(TOML.replace(*change))
    message = refusal(path)
    assert names in message
    assert "\n" not in message


def test_a_file_that_is_no_toml_is_refused_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    for content in (b"name = ", b"\xff\xfe\x00", b"[columns\n"):
        path.write_bytes(content)
        assert "\n" not in refusal(path)


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    assert refusal(tmp_path / "folder.toml")


def test_category_codes_are_the_same_for_ever() -> None:
    # Trained weights depend on these numbers: a change of any is a change of every feature.
    assert category_code("country", "DE") == 6670506
    assert category_code("merchant_id", "m000001") == 5258400
    assert category_code("channel", "online") == 2841490
    assert category_code("channel", "日本 é") == 4576920
    assert category_code("channel", "") == 16355050


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_category_code_is_never_the_code_of_a_missing_value(name: str, value: str) -> None:
    assert MISSING < category_code(name, value) <= CATEGORY_CODES


def test_the_same_value_of_another_field_has_another_code() -> None:
    assert category_code("channel", "DE") != category_code("country", "DE")


def test_entity_codes_are_the_same_for_ever() -> None:
    # Stored payments are compared by them.
    assert entity_code("merchant", "m000001") == 9619324
    assert entity_code("ip", "10.0.0.1") == 498529
    assert entity_code("email", "日本@é.example") == 5265649


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_entity_code_is_exact_in_float32_and_never_that_of_no_entity(
    kind: str, id_: str
) -> None:
    code = entity_code(kind, id_)
    assert MISSING < code <= CATEGORY_CODES
    assert int(np.float32(code)) == code


def test_every_number_up_to_the_largest_code_is_exact_in_float32() -> None:
    assert np.float32(CATEGORY_CODES - 1) != np.float32(CATEGORY_CODES) == CATEGORY_CODES


def test_the_same_id_of_another_kind_has_another_code() -> None:
    assert len({entity_code(kind, "10.0.0.1") for kind in ENTITY_FIELDS}) == len(ENTITY_FIELDS)


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (3.0, "3"), ("3", "3"), (True, "true"), (False, "false"), (2.5, "2.5"), (-0.0, "0")],
)
def test_a_value_is_spelled_the_same_whatever_its_type(value: str | float, text: str) -> None:
    assert category_text(value) == text


def transaction(number: int, **parts: object) -> Transaction:
    column_parts = {"account_id": "a", "occurred_at_us": number, "amount": Decimal("1.10")}
    return Transaction(f"t{number}", currency="EUR", **{**column_parts, **parts})  # type: ignore[arg-type]


def test_transactions_become_columns_in_their_own_order() -> None:
    columns, named = columns_of(
        spec(),
        [
            transaction(5, account_id="b", merchant_id="m", channel="online", type="refund"),
            transaction(3, attributes={"colour": "red", "age": 4}, status="declined"),
            transaction(9, account_id="b", merchant_id="n", attributes={"age": 2.5, "other": 1}),
            transaction(1, merchant_id="m", device_id="m", entities={"wallet": "w", "other": "x"}),
        ],
    )
    assert named.accounts == ["b", "a"]
    # By kind, and an id of one kind is not that of another.
    names = [("device", "m"), ("merchant", "m"), ("merchant", "n"), ("wallet", "w")]
    assert named.entities == names
    assert [named.entities[place] for place in columns.entity_NK[3]] == [names[0], *names[1::2]]
    none = NO_ENTITY
    assert columns.entity_NK.tolist() == [[none, 1, none], [none] * 3, [none, 2, none], [0, 1, 3]]
    device, merchant, other_merchant, wallet = (entity_code(*name) for name in names)
    assert columns.entity_code_NK.tolist() == [
        [MISSING, merchant, MISSING],
        [MISSING] * 3,
        [MISSING, other_merchant, MISSING],
        [device, merchant, wallet],
    ]
    linked = [[*named.links[place]] for place in columns.link_NK[columns.link_NK >= 0]]
    assert linked == [
        ["merchant", "m", "b"],
        ["merchant", "n", "b"],
        ["device", "m", "a"],
        ["merchant", "m", "a"],
        ["wallet", "w", "a"],
    ]
    assert len(set(named.links)) == len(named.links) == 5
    assert ((columns.link_NK >= 0) == (columns.entity_NK >= 0)).all()
    assert columns.standing_N.tolist() == [ASIDE, REFUSED, UNDECIDED, UNDECIDED]
    assert columns.account_N.tolist() == [0, 1, 0, 1]
    assert columns.time_us_N.tolist() == [5, 3, 9, 1]
    assert columns.amount_N.tolist() == [1.1] * 4
    np.testing.assert_array_equal(columns.numeric_NM, [[np.nan], [4], [2.5], [np.nan]])
    assert columns.categorical_NC.tolist() == [
        [category_code("channel", "online"), MISSING],
        [MISSING, category_code("colour", "red")],
        [MISSING, MISSING],
        [MISSING, MISSING],
    ]


def test_payments_that_share_an_entity_share_its_place_and_each_account_has_a_link() -> None:
    wallet = {"entities": {"wallet": "w"}}
    posted = [transaction(n, account_id=account, **wallet) for n, account in enumerate("aba")]
    columns, named = columns_of(spec(), posted)
    assert columns.entity_NK[:, 2].tolist() == [0, 0, 0]
    assert columns.link_NK[:, 2].tolist() == [0, 1, 0]
    assert named.links == [("wallet", "w", "a"), ("wallet", "w", "b")]


@pytest.mark.parametrize("kind", ENTITY_FIELDS)
def test_an_entity_of_a_field_of_its_own_is_not_one_of_the_others(kind: str) -> None:
    posted = transaction(1, **{ENTITY_FIELDS[kind]: "x"}, entities={kind: "y", "wallet": "w"})
    assert posted.entity(kind) == "x"
    assert posted.entity("wallet") == "w"
    assert transaction(1, entities={kind: "y"}).entity(kind) is None
    assert posted.entity("another") is None


@pytest.mark.parametrize(
    ("type_", "status", "standing"),
    [
        ("payment", None, UNDECIDED),
        (None, None, UNDECIDED),
        ("withdrawal", "authorised", SPENT),
        ("transfer", "refunded", SPENT),
        (None, "authorised", SPENT),
        ("payment", "declined", REFUSED),
        ("verification", "declined", REFUSED),
        ("verification", "authorised", TRIED),
        ("payment", "reversed", TRIED),
        ("refund", None, ASIDE),
        ("refund", "declined", ASIDE),
    ],
)
def test_a_type_and_a_status_decide_how_a_transaction_counts(
    type_: str | None, status: str | None, standing: int
) -> None:
    assert standing_of(type_, status) == standing


def test_a_type_is_a_category_where_a_spec_says_so() -> None:
    text = TOML.replace('colour = "colour"', 'type = "kind"')
    typed = spec(text.replace('amount = "paid"', 'amount = "paid"\ntype = "kind"'))
    posted = [transaction(1), transaction(2, type="refund", attributes={"type": "x"})]
    codes_N = columns_of(typed, posted)[0].categorical_NC[:, 1]
    assert codes_N.tolist() == [category_code("type", "payment"), category_code("type", "refund")]


def test_more_values_than_are_kept_have_the_codes_they_always_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.learner.columns.MOST_CODES", 3)
    channels = [None, *"abcdeabc"]
    columns, _ = columns_of(spec(), [transaction(1, channel=channel) for channel in channels])
    expected = [MISSING, *(category_code("channel", channel) for channel in "abcdeabc")]
    assert columns.categorical_NC[:, 0].tolist() == expected


def test_no_transactions_are_columns_of_no_rows() -> None:
    columns, named = columns_of(spec(), [])
    assert len(columns) == 0
    assert columns.categorical_NC.shape == (0, 2)
    assert columns.numeric_NM.shape == (0, 1)
    assert columns.entity_NK.shape == columns.link_NK.shape == (0, 3)
    assert columns.entity_code_NK.shape == (0, 3)
    assert named == ([], [], [])


def test_an_attribute_of_the_wrong_kind_is_missing() -> None:
    posted = [transaction(1, attributes={"age": "old"}), transaction(2, attributes={"age": True})]
    numeric_NM = columns_of(spec(), posted)[0].numeric_NM
    np.testing.assert_array_equal(numeric_NM, [[np.nan], [1]])


@given(st.text() | st.floats(allow_nan=False) | st.booleans())
@example("1e999")
@example("nan")
@example("9" * 256)
@example("\u0663")
def test_every_attribute_has_a_number_and_a_code(attribute: str | float) -> None:
    posted = [transaction(1, attributes={"age": attribute, "colour": attribute})]
    columns = columns_of(spec(), posted)[0]
    assert columns.numeric_NM.shape == (1, 1)
    assert MISSING < columns.categorical_NC[0, 1] <= CATEGORY_CODES


def test_an_attribute_cannot_pose_as_a_field_of_the_transaction() -> None:
    attributes = {"channel": "x", "merchant_id": "m", "device_id": "d", "wallet": "w"}
    posed = columns_of(spec(), [transaction(1, attributes=attributes)])[0]
    assert posed.categorical_NC.tolist() == [[MISSING, MISSING]]
    assert posed.entity_NK.tolist() == [[NO_ENTITY] * 3]
    assert posed.entity_code_NK.tolist() == [[MISSING] * 3]


def test_rows_are_taken_by_position_or_mask() -> None:
    columns = columns_of(spec(), [transaction(number) for number in range(4)])[0]
    assert columns.take(np.array([3, 1])).time_us_N.tolist() == [3, 1]
    assert columns.take(np.array([True, False, False, True])).time_us_N.tolist() == [0, 3]


def test_a_posted_transaction_keeps_the_names_that_it_was_posted_with() -> None:
    texts = ["merchant_id", "merchant_category", "channel", "country", "device_id"]
    texts.append("card_fingerprint")
    body = {name: name for name in reversed(["transaction_id", "account_id", *texts])}
    body |= {"currency": "EUR", "amount": "1.5", "occurred_at": "1970-01-01T00:00:01Z"}
    body |= {"type": "transfer", "status": "reversed", "entities": {"wallet": "w"}}
    body |= {"email": "Mia@Example.com", "ip_address": "::FFFF:10.0.0.1"}
    parsed = PostedTransaction.model_validate(body).transaction()
    assert parsed._asdict() == {
        **{name: name for name in body if name == body[name]},
        "occurred_at_us": 1_000_000,
        "amount": Decimal("1.5"),
        "currency": "EUR",
        "attributes": {},
        "entities": {"wallet": "w"},
        "type": "transfer",
        "status": "reversed",
        "email": "mia@example.com",
        "ip_address": "10.0.0.1",
    }


def test_a_transaction_is_posted_and_answered_with_the_same_fields() -> None:
    names = [name.removesuffix("_us") for name in Transaction._fields]
    assert list(PostedTransaction.model_fields) == names
    assert list(StoredTransaction.model_fields) == [*names, "score", "label"]
