"""Muon: orthogonalised momentum for the blocks' matrices, AdamW for everything else.
Source: K. Jordan et al., Muon (2024): five Newton-Schulz steps with the coefficients 3.4445, -4.7750, 2.0315; the update scaled to AdamW's
size by 0.2 sqrt(longer side) (Moonlight, arXiv 2502.16982)."""
import torch

MOMENTUM, ITERATIONS, COEFFICIENTS = .95, 5, (3.4445, -4.7750, 2.0315)


def orthogonalise(momentum, gradient):
    """One stack of equally shaped matrices, rows <= columns"""
    momentum.lerp_(gradient, 1 - MOMENTUM)
    x = gradient.lerp(momentum, MOMENTUM).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        y = x @ x.mT
        x = a * x + (b * y + c * (y @ y)) @ x
    return x.float()


class Muon:
    def __init__(self, matrices, others, weight_decay=.02, compiled=False):
        groups = {}
        for p in matrices:
            groups.setdefault((min(p.shape), max(p.shape)), []).append(p)
        self.groups, self.weight_decay = list(groups.values()), weight_decay
        self.momenta = [torch.zeros(len(g), min(g[0].shape), max(g[0].shape), device=g[0].device) for g in self.groups]
        decayed, plain = [p for p in others if p.dim() > 1], [p for p in others if p.dim() < 2]
        self.adam = torch.optim.AdamW([dict(params=decayed, weight_decay=.01), dict(params=plain, weight_decay=0.)], lr=1e-3, betas=(.9, .98), fused=others[0].is_cuda)
        self.orthogonalise = torch.compile(orthogonalise, dynamic=False) if compiled else orthogonalise

    @torch.no_grad()
    def step(self, rate, adam_rate):
        for group, momentum in zip(self.groups, self.momenta):
            upright = [p.shape[0] > p.shape[1] for p in group]
            gradient = torch.stack([p.grad.T if t else p.grad for p, t in zip(group, upright)])
            update = self.orthogonalise(momentum, gradient) * (.2 * max(group[0].shape) ** .5)
            torch._foreach_mul_(group, 1 - rate * self.weight_decay)
            torch._foreach_add_(group, [u.T if t else u for u, t in zip(update.unbind(0), upright)], alpha=-rate)
        for g in self.adam.param_groups:
            g['lr'] = adam_rate
        self.adam.step()
