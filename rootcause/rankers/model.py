"""The graph network: messages along both directions of every call, with what is known of the call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from rootcause.features import EDGE_FEATURES, NODE_FEATURES

HIDDEN = 48
ROUNDS = 3


class CallConv(MessagePassing):  # type: ignore[misc]
    """mean and max over calls of relu(M [h_i, h_j, e_ij]): [n, 2 width]; one set of weights per direction."""

    def __init__(self, width: int) -> None:
        super().__init__(aggr=["mean", "max"])
        self.message_of = nn.Linear(2 * width + EDGE_FEATURES, width)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        out: Tensor = self.propagate(edge_index, x=x, edge_attr=edge_attr)
        return out

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor) -> Tensor:
        return torch.relu(self.message_of(torch.cat([x_i, x_j, edge_attr], dim=1)))


class RootCauseNet(nn.Module):
    """[n, NODE_FEATURES] and calls to one logit per node, one per call, and one per graph for "none of these"."""

    def __init__(self, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.lift = nn.Sequential(nn.Linear(NODE_FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN))
        self.down = nn.ModuleList(CallConv(HIDDEN) for _ in range(ROUNDS))  # from callee to caller
        self.up = nn.ModuleList(CallConv(HIDDEN) for _ in range(ROUNDS))  # from caller to callee
        self.mix = nn.ModuleList(nn.Linear(5 * HIDDEN, HIDDEN) for _ in range(ROUNDS))
        self.head = nn.Sequential(nn.Linear(3 * HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.call = nn.Sequential(nn.Linear(4 * HIDDEN + EDGE_FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.none = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))

    def forward(self, x: Tensor, edges: Tensor, edge_attr: Tensor, graph: Tensor,
                graphs: int) -> tuple[Tensor, Tensor, Tensor]:
        """`edges` [2, m] caller, callee; `graph` [n] number of each node's graph. Gives [n], [m] and [graphs]."""
        h = torch.relu(self.lift(self.drop(x)))  # [n, HIDDEN]
        for down, up, mix in zip(self.down, self.up, self.mix, strict=True):
            near = torch.cat([h, up(h, edges, edge_attr), down(h, edges.flip(0), edge_attr)], dim=1)
            h = h + torch.relu(mix(self.drop(near)))
        mean = torch.zeros(graphs, HIDDEN).index_add(0, graph, h) / torch.bincount(graph, minlength=graphs)[:, None]
        top = torch.full((graphs, HIDDEN), -1e9).scatter_reduce(0, graph[:, None].expand_as(h), h, "amax")
        logits = self.head(torch.cat([h, mean[graph], top[graph]], dim=1)).squeeze(1)
        of = graph[edges[0]]
        calls = self.call(torch.cat([h[edges[0]], h[edges[1]], edge_attr, mean[of], top[of]], dim=1)).squeeze(1)
        return logits, calls, self.none(torch.cat([mean, top], dim=1)).squeeze(1)


def log_probabilities(net: RootCauseNet, x: Tensor, edges: Tensor, edge_attr: Tensor, graph: Tensor,
                      graphs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Listwise softmax over the nodes and the calls of a graph and "none": log p [n], [m], log p_none [graphs]."""
    logits, calls, none = net(x, edges, edge_attr, graph, graphs)
    groups = torch.cat([graph, graph[edges[0]], torch.arange(graphs)])
    p: Any = softmax(torch.cat([logits, calls, none]), groups)
    log_p = torch.log(p.clamp_min(1e-9))
    n, m = len(logits), len(calls)
    return log_p[:n], log_p[n:n + m], log_p[n + m:]
