"""All members of the ensemble in one forward pass: their weights stacked, one batched product per layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from rootcause.rankers.model import HIDDEN, ROUNDS


class StackedNets:
    """The same function as `RootCauseNet` of every member, on one graph. Weights of `k` members, [k, out, in]."""

    def __init__(self, members: Sequence[Mapping[str, Tensor]]) -> None:
        self.members = len(members)
        self._w = {name: torch.stack([m[name] for m in members]) for name in members[0]}

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(self._w[f"{name}.bias"][:, None], x, self._w[f"{name}.weight"].transpose(1, 2))

    def _calls(self, name: str, h: Tensor, source: Tensor, target: Tensor, edge: Tensor) -> Tensor:
        """[k, n, 2 HIDDEN] mean and largest message; the product over [h_i, h_j, e_ij] is taken apart, so that the
        nodes' share of it is paid once per node and not once per call."""
        weight, n = self._w[f"{name}.message_of.weight"].transpose(1, 2), h.shape[1]
        here, there, along = weight[:, :HIDDEN], weight[:, HIDDEN:2 * HIDDEN], weight[:, 2 * HIDDEN:]
        sent = torch.relu((h @ here)[:, target] + (h @ there)[:, source] + edge @ along
                          + self._w[f"{name}.message_of.bias"][:, None])
        counts = torch.bincount(target, minlength=n).clamp_min(1)[None, :, None]
        mean = torch.zeros_like(h).index_add(1, target, sent) / counts
        largest = torch.zeros_like(h).scatter_reduce(1, target[None, :, None].expand_as(sent), sent, "amax")
        return torch.cat([mean, largest], dim=2)

    def log_probabilities(self, x: Tensor, edges: Tensor, edge_attr: Tensor) -> Tensor:
        """[k, n + m + 1] listwise log softmax over the nodes of one graph, its calls, and "none of these" (the last)."""
        with torch.no_grad():
            k = self.members
            x, edge_attr = x.expand(k, *x.shape), edge_attr.expand(k, *edge_attr.shape)
            h = torch.relu(self._linear("lift.2", torch.relu(self._linear("lift.0", x))))
            for n in range(ROUNDS):
                near = torch.cat([h, self._calls(f"up.{n}", h, edges[0], edges[1], edge_attr),
                                  self._calls(f"down.{n}", h, edges[1], edges[0], edge_attr)], dim=2)
                h = h + torch.relu(self._linear(f"mix.{n}", near))
            mean, top = h.mean(dim=1, keepdim=True), h.amax(dim=1, keepdim=True)
            both = torch.cat([h, mean.expand_as(h), top.expand_as(h)], dim=2)
            logits = self._linear("head.2", torch.relu(self._linear("head.0", both)))[:, :, 0]
            one, other = mean.expand(k, edges.shape[1], -1), top.expand(k, edges.shape[1], -1)
            ends = torch.cat([h[:, edges[0]], h[:, edges[1]], edge_attr, one, other], dim=2)
            calls = self._linear("call.2", torch.relu(self._linear("call.0", ends)))[:, :, 0]
            none = self._linear("none.2", torch.relu(self._linear("none.0", torch.cat([mean, top], dim=2))))[:, :, 0]
            return log_softmax(torch.cat([logits, calls, none], dim=1), dim=1)
