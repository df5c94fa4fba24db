"""What requests about entities can fail with."""

from app.errors import NotFound


class EntityNotFound(NotFound):
    """Look at the kind and the id: no payment that was scored named it, or the model does not know
    the kind."""

    code, title = "entity_not_found", "No such entity."
