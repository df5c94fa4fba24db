"""`quickstudy people …`"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from app.cli.keys import on_database
from app.cli.terminal import console, second_of, show_rows
from app.keys.scopes import DEFAULT_TENANT, ROLES

if TYPE_CHECKING:
    from app.db.database import Database
    from app.people.records import Person
    from app.people.service import Invitation

commands = typer.Typer(help="People at the console.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Shown beside their verdicts.")]
Tenant = Annotated[str, typer.Option(help="Whose data they see.")]


@commands.command("add")
def add(
    name: Name,
    role: Annotated[str, typer.Option(help=f"What they may do: {', '.join(ROLES)}.")] = "analyst",
    email: Annotated[str | None, typer.Option(help="Their e-mail address.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Add a person and print the link, alone, by which they choose a password."""
    from app.people import service as people
    from app.people.schemas import PostedPerson

    posted = PostedPerson.model_validate({"name": name, "role": role, "email": email})
    _print_link(
        on_database(
            lambda database: people.add(database, tenant, posted.name, posted.role, posted.email)
        )
    )


@commands.command("list")
def list_people() -> None:
    """Show everybody: name, tenant, role, and since when."""
    from app.people import service as people
    from app.people.records import Person

    def row(person: Person) -> tuple[str, ...]:
        times = (second_of(at) for at in (person.created_at_us, person.disabled_at_us))
        return person.name, person.tenant, person.role, person.email or "", *times, person.id

    names = ("name", "tenant", "role", "e-mail", "added", "removed", "id")
    none = "There is nobody: `quickstudy people add NAME` adds somebody."
    show_rows(names, map(row, on_database(people.listed)), none)


@commands.command("role")
def set_role(
    name: Name,
    role: Annotated[str, typer.Argument(help=f"One of {', '.join(ROLES)}.")],
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Change what somebody may do, from now on."""
    from app.people import service as people

    chosen = next((name for name in ROLES if name == role), None)
    if chosen is None:
        raise ValueError(f"unknown role {role!r}; choose from {', '.join(ROLES)}")

    async def change(database: "Database") -> None:
        person = await _named(database, tenant, name)
        await people.set_role(database, tenant, person.id, chosen)

    on_database(change)
    console.print(f"{escape(name)} is {chosen} from now on.")


@commands.command("reset")
def reset(name: Name, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Print a new link, alone. Password and sessions end; somebody removed is let in again."""
    from app.people import service as people

    async def change(database: "Database") -> "Invitation":
        return await people.reset(database, tenant, (await _named(database, tenant, name)).id)

    _print_link(on_database(change))


@commands.command("remove")
def remove(name: Name, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Remove somebody, at once. Nobody else can ever have the name."""
    from app.people import service as people

    async def change(database: "Database") -> None:
        await people.remove(database, tenant, (await _named(database, tenant, name)).id)

    on_database(change)
    console.print(f"{escape(name)} is removed.")


async def _named(database: "Database", tenant: str, name: str) -> "Person":
    from app.people import service as people
    from app.people.errors import PersonNotFound

    found = [person for person in await people.listed(database, tenant) if person.name == name]
    if not found:
        raise PersonNotFound(f"There is nobody named {name!r}.")
    return found[0]


def _print_link(invited: "Invitation") -> None:
    from app.cli.serve import address_of
    from app.settings import Settings

    typer.echo(f"{address_of(Settings())}/console/setup?token={invited.secret}")
