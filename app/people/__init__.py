"""People: who may work at the console, as what, and how they sign in."""
