"""The names of the ways to learn an account's labels; what each does stands in `adaptation.py`."""

from typing import Literal, get_args

Algorithm = Literal["maml", "fomaml", "anil", "meta-sgd", "reptile"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
