"""States are stored without their zeros, see decision 0097.

Those that are stored with them are read as they are, and packed when their account or entity is
next used. The way down writes out the zeros again, since earlier versions know no other form.
"""

import struct

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

ACCOUNTS = sa.table(
    "accounts", sa.column("tenant"), sa.column("account_id"), sa.column("state", sa.LargeBinary)
)
ENTITIES = sa.table(
    "entities",
    *map(sa.column, ("tenant", "kind", "entity_id", "slot")),
    sa.column("state", sa.LargeBinary),
    sa.column("label_state", sa.LargeBinary),
)
# Rows at once: a state has some kB.
ROWS = 1000
# A mark, and how many sums; two times; then bits in eights, and numbers of eight bytes.
HEAD, TIMES, MARK = struct.Struct("<BI"), 16, 1
BITS_AT = HEAD.size + TIMES


def upgrade() -> None:
    """Nothing: both forms are read."""


def downgrade() -> None:
    _write_out(ACCOUNTS, ["tenant", "account_id"], ["state"])
    _write_out(ENTITIES, ["tenant", "kind", "entity_id", "slot"], ["state", "label_state"])


def _write_out(table: sa.TableClause, key: list[str], states: list[str]) -> None:
    order = [table.c[name] for name in key]
    change = (
        sa.update(table)
        .where(*(table.c[name] == sa.bindparam(f"of_{name}") for name in key))
        .values({name: sa.bindparam(f"new_{name}") for name in states})
    )
    after = None
    while True:
        query = sa.select(table).order_by(*order).limit(ROWS)
        if after is not None:
            query = query.where(sa.tuple_(*order) > sa.tuple_(*after))
        rows = op.get_bind().execute(query).mappings().all()
        if not rows:
            return
        op.get_bind().execute(
            change,
            [
                {f"of_{name}": row[name] for name in key}
                | {f"new_{name}": _whole(row[name]) for name in states}
                for row in rows
            ],
        )
        after = [rows[-1][name] for name in key]


def _whole(stored: bytes | None) -> bytes | None:
    """A state with its zeros; one that has them stays."""
    if stored is None or len(stored) % 8 != BITS_AT % 8 or stored[0] != MARK:
        return stored
    _, sums = HEAD.unpack_from(stored)
    numbers_at = BITS_AT + (2 * sums + 63) // 64 * 8
    bits = int.from_bytes(stored[BITS_AT:numbers_at], "little")
    whole, at = bytearray(stored[HEAD.size : BITS_AT]), numbers_at
    for number in range(2 * sums):
        is_there = bits >> number & 1
        whole += stored[at : at + 8] if is_there else bytes(8)
        at += 8 * is_there
    return bytes(whole)
