"""What requests about saved searches can fail with."""

from app.errors import NotFound, Problem


class SearchNotFound(NotFound):
    """List the searches: you have saved none under this name."""

    code, title = "search_not_found", "No such saved search."


class TooManySearches(Problem):
    """Remove a search before saving another under a new name."""

    status, code, title = 409, "too_many_searches", "The limit of saved searches is reached."
