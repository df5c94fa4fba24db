"""One text for one device, address or card, by the API and in files alike."""

from pathlib import Path

import pytest

from app.learner.entities import canonical
from app.learner.spec import DatasetSpec
from app.training.dataset import read_transactions
from app.training.files import DataError

SPEC = DatasetSpec.model_validate(
    {
        "name": "entities",
        "columns": {"transaction": "id", "account": "who", "time": "at", "amount": "paid"},
        "entities": {"ip": "address", "card": "card", "email": "mail", "wallet": "wallet"},
    }
)


@pytest.mark.parametrize(
    ("kind", "spelled", "kept"),
    [
        ("ip", "203.0.113.7", "203.0.113.7"),
        ("ip", "::FFFF:203.0.113.7", "203.0.113.7"),
        ("ip", "2001:0DB8:0:0::0001", "2001:db8::1"),
        ("email", "Mia.O@Example.COM", "mia.o@example.com"),
        ("card", "4111111111111112", "4111111111111112"),
        ("card", "411111111111", "411111111111"),
        ("card", "tok_4111111111111111", "tok_4111111111111111"),
        ("device", "Ab C", "Ab C"),
        ("wallet", "4111111111111111", "4111111111111111"),
    ],
)
def test_an_entity_has_one_text_however_it_is_spelled(kind: str, spelled: str, kept: str) -> None:
    assert canonical(kind, spelled) == kept
    assert canonical(kind, kept) == kept


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        *(("ip", text, "an IP address is") for text in ("1.2.3", "fe80::1%eth0", "x", "01.2.3.4")),
        *(("email", text, "has a name, an @") for text in ("mia", "@example.com", "mia@")),
        ("card", "4111111111111111", "full card number"),
        ("card", "4111 1111-1111 1111", "full card number"),
        ("card", "6304000000000000000", "full card number"),
    ],
)
def test_what_is_no_entity_of_its_kind_is_refused_in_a_sentence(
    kind: str, text: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        canonical(kind, text)
    assert kind != "card" or text not in str(refused.value)


def read(folder: Path, *rows: str) -> list[tuple[str, str]]:
    path = folder / "file.csv"
    lines = [f"t-{n},a,2026-01-01,1,{row}" for n, row in enumerate(rows)]
    path.write_text("\n".join(["id,who,at,paid,address,card,mail,wallet", *lines, ""]))
    return read_transactions(path, SPEC).entities


def test_a_file_has_the_entities_that_the_service_would_keep(tmp_path: Path) -> None:
    found = read(tmp_path, "::ffff:10.0.0.1,c-1,Mia@x.de,W", "10.0.0.1,,mia@X.de,w", ",,,")
    kept = [("ip", "10.0.0.1"), ("card", "c-1"), ("email", "mia@x.de"), ("wallet", "W")]
    assert sorted(found) == sorted([*kept, ("wallet", "w")])


@pytest.mark.parametrize(
    ("row", "where"),
    [("x,,,", '"address": an IP'), (",4111111111111111,,", '"card": this'), (",,x,", '"mail": an')],
)
def test_a_file_is_refused_by_row_and_column(tmp_path: Path, row: str, where: str) -> None:
    with pytest.raises(DataError, match=rf"row 2 \(line 3\), column {where}"):
        read(tmp_path, ",,,", row)


def test_a_spec_that_has_its_merchant_among_the_columns_reads_on(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    columns = 'transaction = "t"\naccount = "a"\ntime = "at"\namount = "x"\nmerchant = "m"'
    path.write_text(f'name = "old"\n[columns]\n{columns}\n')
    old = DatasetSpec.load(path)
    assert old.entities == {"merchant": "m"}
    path.write_text(f'name = "old"\n[columns]\n{columns}\n[entities]\ndevice = "d"\n')
    assert DatasetSpec.load(path).entities == {"merchant": "m", "device": "d"}
    path.write_text(f'name = "old"\n[columns]\n{columns}\n[entities]\nmerchant = "m"\n')
    with pytest.raises(ValueError, match=r"columns: merchant is .* under \[entities\], once$"):
        DatasetSpec.load(path)


def test_a_type_is_of_one_column() -> None:
    fields = SPEC.model_dump() | {"categorical": {"type": "kind"}}
    with pytest.raises(ValueError, match="type is both categorical and under"):
        DatasetSpec.model_validate(fields)
