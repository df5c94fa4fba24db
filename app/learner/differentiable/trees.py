"""Trees beside the network: what they add up to for rows, by their quantities and their labels.

Training grows them (`app/training/trees.py`); here they only answer. Each is whole: a place of a
tree that was not split has an edge that nothing lies above, and what stands below it the same
value, so that all rows take as many turns.

Axes: J trees, S splits and V places of each, C columns that they read: the Z quantities, then the
I inputs from labels; B accounts, N rows of an account.
"""

import torch
from torch import Tensor, nn

from app.learner.network import NODES, SPLITS, TREE_DEPTH


class Trees(nn.Module):
    """So many trees, or none: buffers that a checkpoint keeps.

    A row turns right at a split where its column is above the edge. `value_JV` has what each place
    stands for; the log-odds are the sum over the trees of where a row ends.
    """

    column_JS: Tensor
    edge_JS: Tensor
    value_JV: Tensor

    def __init__(self, trees: int = 0) -> None:
        super().__init__()
        self.keep(*(torch.zeros(trees, size) for size in (SPLITS, SPLITS, NODES)))

    def keep(self, column_JS: Tensor, edge_JS: Tensor, value_JV: Tensor) -> None:
        """Have these trees, in the place of those before; of none a checkpoint keeps nothing."""
        is_kept = len(column_JS) > 0
        self.register_buffer("column_JS", column_JS, is_kept)
        self.register_buffer("edge_JS", edge_JS, is_kept)
        self.register_buffer("value_JV", value_JV, is_kept)

    def __len__(self) -> int:
        return len(self.column_JS)

    def forward(self, quantity_BNZ: Tensor, inputs_BNI: Tensor) -> Tensor:
        """The log-odds that the trees give rows: [B, N]."""
        read_BNC = torch.cat([quantity_BNZ, inputs_BNI], dim=-1)
        tree_J = torch.arange(len(self), device=read_BNC.device)
        place_BNJ = torch.zeros(
            *read_BNC.shape[:2], len(self), dtype=torch.int64, device=read_BNC.device
        )
        column_JS = self.column_JS.long()
        for _ in range(TREE_DEPTH):
            value_BNJ = read_BNC.gather(-1, column_JS[tree_J, place_BNJ])
            place_BNJ = 2 * place_BNJ + 1 + (value_BNJ > self.edge_JS[tree_J, place_BNJ])
        return self.value_JV[tree_J, place_BNJ].sum(-1)
