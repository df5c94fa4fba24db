"""What requests about people can fail with."""

from app.errors import NotFound, Problem


class PersonNotFound(NotFound):
    """List the people: none has this id."""

    code, title = "person_not_found", "No such person."


class PersonExists(Problem):
    """Choose another name or e-mail address, or reset the person who has it."""

    status, code = 409, "person_exists"
    title = "Somebody else has this name or e-mail address."


class LinkNotFound(NotFound):
    """Get a new one, by `quickstudy people reset NAME`: each is good once, and for a while."""

    code, title = "link_not_found", "This link has been used, or has ended."


class WrongPassword(Problem):
    """Send the current password of this person; if it is forgotten, reset the person."""

    status, code, title = 403, "wrong_password", "This is not the person's password."


class TooManyPeople(Problem):
    """Reset a removed person, or use another tenant: a tenant has at most 2,000 people."""

    status, code, title = 409, "too_many_people", "The limit of people is reached."
