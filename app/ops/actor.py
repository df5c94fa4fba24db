"""Who acts: the actor of what the audit log keeps."""

from contextvars import ContextVar

COMMAND_LINE = "command line"
# The id of the key that a request came with, or `person:` and the id of who has signed in.
actor: ContextVar[str] = ContextVar("actor", default=COMMAND_LINE)
