#!/usr/bin/env python3
"""The PyTorch peer of `templar bench train` and `templar bench eval`: the same Llama, as fast as PyTorch runs it.

One process trains on one GPU; `--gpus N` starts N processes of one host by itself (FSDP2 for training, replicas for
evaluation). Progress goes to standard error. The last line on standard output is one JSON object.

What is compared. Llama with RMSNorm computed in float32, half-split rotary embedding, grouped-query causal attention,
SwiGLU, no biases, the head tied or not; cross-entropy in float32 over logits that a bf16 product made; parameters and
AdamW moments in float32; the gradient clipped to a global norm in every step. Nothing is saved between steps.

What is free. Anything that leaves the mathematics alone may be faster than the textbook, and is on when it is:
  * weights: `shadow` keeps a bf16 copy of every matrix, which the optimiser's kernel writes together with the float32
    master, and gradients stay in the bf16 in which the products give them. `cast` converts float32 parameters inside the
    compiled step, which is what torch.autocast traces to, so autocast has nothing to add. `cast` moves about 50 bytes
    per parameter and step outside the products, `shadow` about 30; the numbers are the same.
  * optimiser: `compiled` is AdamW with the clipping factor folded in, one kernel per parameter. `fused` is
    torch.optim.AdamW(fused=True) after clip_grad_norm_(foreach=True).
  * projections: `packed` computes q, k, v in one product and both halves of SwiGLU in one.
  * attention: the backends of scaled_dot_product_attention are timed on the real shape first, the fastest one wins.
`--sweep` runs all sensible choices one after the other and reports the fastest.

Tokens are random from `--seed` (a different batch on each GPU). All steps see the same batch, so the loss must fall;
`--data fresh` draws a new batch for every step instead.
"""

import argparse
import dataclasses
import gc
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

FLOPS_FORMULA = {
    "train": "6*(N - embedding) + 6*layers*dim*seq per token",
    "eval": "2*(N - embedding) + 2*layers*dim*seq per token",
}
# Attention calls per round of timing one backend, and rounds; the best round counts, so that a GPU whose clock is
# still rising does not punish the backend that comes first.
PROBE_STEPS, PROBE_ROUNDS = 10, 5


class PeerError(Exception):
    """Something the person at the keyboard can change; printed without a trace."""


# ---------------------------------------------------------------------------------------------------------------------
# Model


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the model; `params` and `flops_per_token` follow from them."""

    layers: int
    dim: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    seq: int
    tied: bool
    rope_theta: float
    norm_eps: float

    @property
    def head_dim(self):
        return self.dim // self.heads

    @property
    def params(self):
        """Number of parameters; the tied matrix counts once."""
        kv = self.kv_heads * self.head_dim
        block = 2 * self.dim * self.dim + 2 * kv * self.dim + 3 * self.dim * self.ffn + 2 * self.dim
        return self.layers * block + self.dim + self.vocab * self.dim * (1 if self.tied else 2)

    def flops_per_token(self, mode):
        """Products forward (2) or forward and backward (6), causal attention at half.

        The embedding's rows are only read, so they do not count; a tied matrix counts, because it is the head's too.
        """
        in_products = self.params - (0 if self.tied else self.vocab * self.dim)
        return {"train": 6, "eval": 2}[mode] * (in_products + self.layers * self.dim * self.seq)

    def check(self):
        if self.dim % self.heads:
            raise PeerError(f"--dim {self.dim} must be a multiple of --heads {self.heads}")
        if self.heads % self.kv_heads:
            raise PeerError(f"--heads {self.heads} must be a multiple of --kv-heads {self.kv_heads}")
        if self.head_dim % 2:
            raise PeerError("dim / heads must be even, the rotary embedding turns pairs")


@dataclasses.dataclass(frozen=True)
class Choices:
    """What does not change the mathematics."""

    packed: bool
    # Repeat the key and value heads before attention instead of passing enable_gqa.
    repeat_kv: bool
    recompute: bool
    compute: torch.dtype


def rms_norm(x, gain, eps):
    """`x * rsqrt(mean(x^2) + eps) * gain` in float32, back in the type of `x`."""
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale * gain.float()).to(x.dtype)


def rotate(x, cos, sin):
    """Half-split rotary embedding of `[batch, seq, heads, head_dim]`; tables are `[seq, 1, head_dim / 2]` in float32."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def rotary_tables(shape, device):
    """Cosines and sines of `position * theta^(-2j / head_dim)`; frequencies and angles are rounded to float32."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float64, device=device) / shape.head_dim
    frequencies = (shape.rope_theta ** -exponents).float()
    angles = torch.arange(shape.seq, dtype=torch.float32, device=device)[:, None] * frequencies
    angles = angles.double()[:, None, :]
    return angles.cos().float(), angles.sin().float()


def linear(x, weight):
    """`x @ weight.T` in the type of `x`: no work when the weight has that type already."""
    return F.linear(x, weight.to(x.dtype))


def matrix(rows, columns):
    return nn.Parameter(torch.empty(rows, columns))


class Embedding(nn.Module):
    def __init__(self, shape, choices):
        super().__init__()
        self.compute = choices.compute
        self.weight = matrix(shape.vocab, shape.dim)

    def forward(self, tokens):
        # Rows are picked before they are cast, so the table itself is never copied.
        return F.embedding(tokens, self.weight).to(self.compute)


class Block(nn.Module):
    """One transformer block: attention and SwiGLU, each after its norm and added to the residual stream."""

    def __init__(self, shape, choices):
        super().__init__()
        self.shape, self.choices = shape, choices
        q_rows, kv_rows = shape.dim, shape.kv_heads * shape.head_dim
        if choices.packed:
            self.wqkv = matrix(q_rows + 2 * kv_rows, shape.dim)
            self.w13 = matrix(2 * shape.ffn, shape.dim)
        else:
            self.wq, self.wk, self.wv = matrix(q_rows, shape.dim), matrix(kv_rows, shape.dim), matrix(kv_rows, shape.dim)
            self.w1, self.w3 = matrix(shape.ffn, shape.dim), matrix(shape.ffn, shape.dim)
        self.wo = matrix(shape.dim, shape.dim)
        self.w2 = matrix(shape.dim, shape.ffn)
        self.attention_norm = nn.Parameter(torch.empty(shape.dim))
        self.ffn_norm = nn.Parameter(torch.empty(shape.dim))

    def forward(self, x, cos, sin):
        if self.choices.recompute and torch.is_grad_enabled():
            return torch.utils.checkpoint.checkpoint(self.block, x, cos, sin, use_reentrant=False)
        return self.block(x, cos, sin)

    def block(self, x, cos, sin):
        x = x + self.attention(rms_norm(x, self.attention_norm, self.shape.norm_eps), cos, sin)
        return x + self.feed_forward(rms_norm(x, self.ffn_norm, self.shape.norm_eps))

    def attention(self, x, cos, sin):
        shape, (batch, seq, _) = self.shape, x.shape
        heads, kv = shape.heads, shape.kv_heads
        if self.choices.packed:
            qkv = linear(x, self.wqkv).view(batch, seq, heads + 2 * kv, shape.head_dim)
            q, k, v = qkv.split((heads, kv, kv), dim=2)
        else:
            q = linear(x, self.wq).view(batch, seq, heads, shape.head_dim)
            k = linear(x, self.wk).view(batch, seq, kv, shape.head_dim)
            v = linear(x, self.wv).view(batch, seq, kv, shape.head_dim)
        attended = attend(rotate(q, cos, sin), rotate(k, cos, sin), v, self.choices.repeat_kv)
        return linear(attended.reshape(batch, seq, shape.dim), self.wo)

    def feed_forward(self, x):
        if self.choices.packed:
            gate, up = linear(x, self.w13).chunk(2, dim=-1)
        else:
            gate, up = linear(x, self.w1), linear(x, self.w3)
        return linear(F.silu(gate) * up, self.w2)


def attend(q, k, v, repeat_kv):
    """Causal attention of `[batch, seq, heads, head_dim]`, in the same layout."""
    groups = q.shape[2] // k.shape[2]
    if groups > 1 and repeat_kv:
        k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
        groups = 1
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups > 1).transpose(1, 2)


class Head(nn.Module):
    """Final norm, head and mean cross-entropy; the logits never leave the compiled region."""

    def __init__(self, shape, tied_to):
        super().__init__()
        self.eps = shape.norm_eps
        self.norm = nn.Parameter(torch.empty(shape.dim))
        self.weight = matrix(shape.vocab, shape.dim) if tied_to is None else tied_to

    def forward(self, x, targets):
        logits = linear(rms_norm(x, self.norm, self.eps), self.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class Llama(nn.Module):
    """From tokens and targets, both `[batch, seq]`, to the mean loss in nats per token."""

    def __init__(self, shape, choices):
        super().__init__()
        self.embedding = Embedding(shape, choices)
        self.blocks = nn.ModuleList(Block(shape, choices) for _ in range(shape.layers))
        self.head = Head(shape, self.embedding.weight if shape.tied else None)

    def forward(self, tokens, targets, cos, sin):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(x, targets)


def local(tensor):
    """The part of a parameter that this process holds, as an ordinary tensor that shares its memory."""
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def initialise(model, shape, seed, rank):
    """Our distributions with PyTorch's generator: gains 1, embedding N(0, 1), head N(0, 1/dim) cut at 3 deviations,
    inner matrices 0.02, those that end a branch (and `w3`) divided by `sqrt(2 (layer + 1))`."""
    generator = None
    for index, (name, param) in enumerate(model.named_parameters()):
        name, target = name.replace("_orig_mod.", ""), local(param)
        if generator is None:
            generator = torch.Generator(device=target.device)
        generator.manual_seed((seed * 1_000_003 + index) * 64 + rank)
        if name == "head.weight" or (name == "embedding.weight" and shape.tied):
            draw_cut(target, shape.dim**-0.5, generator)
        elif name == "embedding.weight":
            target.normal_(0.0, 1.0, generator=generator)
        elif name.endswith("norm"):
            target.fill_(1.0)
        else:
            layer, leaf = int(name.split(".")[1]), name.rsplit(".", 1)[1]
            target.normal_(0.0, 0.02, generator=generator)
            shrink = (2.0 * (layer + 1)) ** -0.5
            if leaf in ("wo", "w2", "w3"):
                target.mul_(shrink)
            elif leaf == "w13":
                # The second half of the rows is w3; a shard knows its rows from its offset.
                scale_upper_rows(param, target, shape.ffn, shrink)


def draw_cut(target, std, generator):
    """Normal with deviation `std`, cut at three of them."""
    nn.init.trunc_normal_(target, 0.0, std, -3 * std, 3 * std, generator=generator)


def scale_upper_rows(param, target, first, factor):
    """Multiplies the rows from `first` on of a matrix that may be sharded by rows."""
    offset = 0
    if target.shape[0] != param.shape[0]:
        size = -(-param.shape[0] // dist.get_world_size())
        offset = size * dist.get_rank()
    target[max(first - offset, 0) :].mul_(factor)


# ---------------------------------------------------------------------------------------------------------------------
# Attention backends

BACKENDS = ("flash", "cudnn")


def select_backend(name):
    """Leaves scaled_dot_product_attention one backend to take; `default` leaves PyTorch's own order."""
    if name == "default":
        return
    torch.backends.cuda.enable_flash_sdp(name == "flash")
    torch.backends.cuda.enable_cudnn_sdp(name == "cudnn")
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)


def probe(shape, batch, mode, repeat_kv, device):
    """Milliseconds of one attention on the real shape with the selected backend, and its results."""
    generator = torch.Generator(device=device).manual_seed(1)

    def draw(heads):
        x = torch.randn(batch, shape.seq, heads, shape.head_dim, device=device, generator=generator)
        return x.to(torch.bfloat16).requires_grad_(mode == "train")

    q, k, v, grad = draw(shape.heads), draw(shape.kv_heads), draw(shape.kv_heads), draw(shape.heads).detach()

    def once():
        out = attend(q, k, v, repeat_kv)
        grads = torch.autograd.grad(out, (q, k, v), grad) if mode == "train" else ()
        return [t.detach().float() for t in (out, *grads)]

    def timed():
        out = attend(q, k, v, repeat_kv)
        if mode == "train":
            torch.autograd.grad(out, (q, k, v), grad)

    results = once()
    clock = Clock(device)
    clock.mark()
    for _ in range(PROBE_ROUNDS):
        for _ in range(PROBE_STEPS):
            timed()
        clock.mark()
    return min(clock.milliseconds()) / PROBE_STEPS, results


def agree(results, reference):
    """Whether a backend computes the same as the first one that ran, up to bf16."""
    return all((a - b).norm() <= 0.05 * b.norm() for a, b in zip(results, reference))


def fastest_backend(shape, batch, mode, device):
    """The fastest way to attend on this GPU, as (backend, repeat_kv)."""
    ways = [(name, False) for name in BACKENDS]
    if shape.heads != shape.kv_heads:
        ways += [(name, True) for name in BACKENDS]
    times, reference = {}, None
    for name, repeat_kv in ways:
        label = name + ("+repeat" if repeat_kv else "")
        select_backend(name)
        try:
            times[name, repeat_kv], results = probe(shape, batch, mode, repeat_kv, device)
        except RuntimeError as error:
            say(f"attention {label}: not usable here ({str(error).splitlines()[0]})")
            continue
        reference = reference or results
        if not agree(results, reference):
            say(f"attention {label}: {times.pop((name, repeat_kv)):.3f} ms, but other results than the first backend; left out")
            continue
        say(f"attention {label}: {times[name, repeat_kv]:.3f} ms")
    if not times:
        raise PeerError("no attention backend works on this shape; try --attention default")
    return min(times, key=times.get)


# ---------------------------------------------------------------------------------------------------------------------
# Optimiser


def adamw_kernel(param, m, v, grad, shadow, scalars, factor, beta1, beta2, eps):
    """One parameter's AdamW update in place, in float32; `scalars` are [keep, step size, root correction]."""
    grad = grad.float() * factor
    new_m = beta1 * m + (1.0 - beta1) * grad
    new_v = beta2 * v + (1.0 - beta2) * grad * grad
    new = param * scalars[0] - scalars[1] * new_m / (new_v.sqrt() * scalars[2] + eps)
    m.copy_(new_m)
    v.copy_(new_v)
    param.copy_(new)
    if shadow is not None:
        shadow.copy_(new)


class CompiledAdamW:
    """AdamW with the clipping factor folded in: reads each gradient twice (norm, update), writes none.

    Masters, moments and gradients are the local parts; the norm is summed over the processes.
    """

    def __init__(self, args, device, total_steps, world):
        self.args, self.world, self.moments = args, world, None
        steps = torch.arange(1, total_steps + 1, dtype=torch.float64)
        keep = torch.full_like(steps, 1.0 - args.lr * args.weight_decay)
        size = args.lr / (1.0 - args.beta1**steps)
        root = (1.0 - args.beta2**steps).rsqrt()
        # A table on the device: no transfer and no new compilation from step to step.
        self.scalars = torch.stack((keep, size, root), dim=1).float().to(device)
        self.one = torch.ones((), device=device)
        # One program per shape; parameters of a shape share it. (One program of all parameters would take minutes.)
        self.kernel = adamw_kernel if args.compile == "none" else torch.compile(adamw_kernel, dynamic=False)

    @torch.no_grad()
    def step(self, index, params, grads, shadows):
        if self.moments is None:
            self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]
        factor = self.clip_factor(grads)
        # A row of the table starts at an address that compiled kernels would not take without a copy for each call.
        args, scalars = self.args, self.scalars[index].clone()
        for param, (m, v), grad, shadow in zip(params, self.moments, grads, shadows):
            self.kernel(param, m, v, grad, shadow, scalars, factor, args.beta1, args.beta2, args.adam_eps)

    def clip_factor(self, grads):
        """`min(1, clip / (norm + 1e-6))`, as clip_grad_norm_ has it, without a synchronisation."""
        if self.args.clip is None:
            return self.one
        # The multi-tensor kernel wants one type per call; squares are summed in float32 whatever the type.
        norms = []
        for dtype in {grad.dtype for grad in grads}:
            norms += torch._foreach_norm([grad for grad in grads if grad.dtype == dtype], 2, dtype=torch.float32)
        total = torch.stack(norms).square().sum()
        if self.world > 1:
            dist.all_reduce(total)
        return (self.args.clip / (total.sqrt() + 1e-6)).clamp(max=1.0)


# ---------------------------------------------------------------------------------------------------------------------
# The step


def build(shape, choices, device):
    """The model without values. On `meta` it takes no memory; to_empty() then gives it some, but unties what is tied."""
    with torch.device(device):
        model = Llama(shape, choices)
    found = sum(param.numel() for param in model.parameters())
    if found != shape.params:
        raise AssertionError(f"the model has {found} parameters, the formula says {shape.params}")
    return model


def compile_options(args):
    options = {"fullgraph": True, "dynamic": False}
    if args.compile != "default":
        options["mode"] = args.compile
    return options


def compiled(function, args):
    return function if args.compile == "none" else torch.compile(function, **compile_options(args))


class SingleTrainer:
    """One GPU: model, loss and their gradients are one compiled program, the optimiser follows."""

    def __init__(self, shape, choices, args, device, total_steps):
        self.args = args
        model = build(shape, choices, device)
        initialise(model, shape, args.seed, 0)
        self.params = list(model.parameters())
        self.masters = [param.detach() for param in self.params]
        self.shadows = [None] * len(self.params)
        if args.weights == "shadow":
            self.make_shadows(model, shape, choices)
        self.model = compiled(model, args)
        if args.adamw == "compiled":
            self.adamw = CompiledAdamW(args, device, total_steps, 1)
        else:
            self.adamw = torch_adamw(self.params, args)

    def make_shadows(self, model, shape, choices):
        """Puts copies in the compute type into the model; the masters stay with the optimiser.

        Gains stay float32 (they are used so and are tiny), and so does an untied embedding, of which a step reads few
        rows; its gradient is then summed in float32 too.
        """
        for index, param in enumerate(self.params):
            only_read = param is model.embedding.weight and not shape.tied
            if param.ndim == 2 and not only_read:
                param.data = param.data.to(choices.compute)
                self.shadows[index] = param.detach()

    def step(self, index, batch):
        loss = self.model(*batch)
        if self.args.adamw == "compiled":
            # autograd.grad hands the gradients over; backward() would copy those that it may not keep.
            grads = torch.autograd.grad(loss, self.params)
            self.adamw.step(index, self.masters, grads, self.shadows)
        else:
            loss.backward()
            clip_and_step(self.params, self.adamw, self.args)
        return loss.detach()


class ShardedTrainer:
    """Several GPUs: FSDP2 over blocks, embedding and head, bf16 parameters, float32 reduction, blocks compiled."""

    def __init__(self, shape, choices, args, device, total_steps, rank, world):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        self.args = args
        # Untied, no process ever holds the whole float32 model.
        model = build(shape, choices, device if shape.tied else "meta")
        for index, block in enumerate(model.blocks):
            model.blocks[index] = compiled(block, args)
        model.head, model.embedding = compiled(model.head, args), compiled(model.embedding, args)
        # The tables of the rotary embedding are inputs of the blocks and must stay float32: nothing is cast on entry.
        reduce = {"float32": torch.float32, "bfloat16": torch.bfloat16}[args.reduce]
        policy = MixedPrecisionPolicy(param_dtype=choices.compute, reduce_dtype=reduce, cast_forward_inputs=False)
        options = {"mesh": init_device_mesh(device.type, (world,)), "mp_policy": policy}
        if not shape.tied:
            # A tied matrix belongs to both, so it stays in the root's group.
            fully_shard(model.embedding, reshard_after_forward=args.reshard, **options)
            # The head's backward comes right after its forward: freeing it between would only gather it again.
            fully_shard(model.head, reshard_after_forward=False, **options)
        for block in model.blocks:
            fully_shard(block, reshard_after_forward=args.reshard, **options)
        self.model = fully_shard(model, reshard_after_forward=False, **options)
        if not shape.tied:
            model.to_empty(device=device)
        initialise(model, shape, args.seed, rank)
        self.params = list(model.parameters())
        if args.adamw == "compiled":
            self.adamw = CompiledAdamW(args, device, total_steps, world)
        else:
            self.adamw = torch_adamw(self.params, args)

    def step(self, index, batch):
        loss = self.model(*batch)
        loss.backward()
        if self.args.adamw == "compiled":
            params, grads = [local(param) for param in self.params], [local(param.grad) for param in self.params]
            self.adamw.step(index, params, grads, [None] * len(params))
            for param in self.params:
                param.grad = None
        else:
            clip_and_step(self.params, self.adamw, self.args)
        return loss.detach()


class Evaluator:
    """Forward only, a replica per GPU; matrices are cast to the compute type once, there is nothing to update."""

    def __init__(self, shape, choices, args, device):
        model = build(shape, choices, device)
        initialise(model, shape, args.seed, 0)
        for param in model.parameters():
            if param.ndim == 2:
                param.data = param.data.to(choices.compute)
        self.model = compiled(model.eval().requires_grad_(False), args)

    def step(self, index, batch):
        with torch.inference_mode():
            return self.model(*batch)


def torch_adamw(params, args):
    betas = (args.beta1, args.beta2)
    return torch.optim.AdamW(params, lr=args.lr, betas=betas, eps=args.adam_eps, weight_decay=args.weight_decay, fused=True)


def clip_and_step(params, optimizer, args):
    if args.clip is not None:
        nn.utils.clip_grad_norm_(params, args.clip, foreach=True)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


class Batches:
    """Random tokens on the device; targets are the tokens one place later."""

    def __init__(self, shape, args, device, rank, tables):
        self.shape, self.args, self.device, self.tables = shape, args, device, tables
        self.generator = torch.Generator(device="cpu").manual_seed(args.seed * 4096 + rank)
        self.batch = None

    def next(self):
        if self.batch is None or self.args.data == "fresh":
            size = (self.args.batch, self.shape.seq + 1)
            drawn = torch.randint(self.shape.vocab, size, generator=self.generator).to(self.device)
            self.batch = (drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous(), *self.tables)
        return self.batch


class Clock:
    """Marks between steps: events on a GPU (no synchronisation while measuring), the wall clock on a CPU."""

    def __init__(self, device):
        self.cuda, self.marks = device.type == "cuda", []

    def mark(self):
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def milliseconds(self):
        pairs = list(zip(self.marks, self.marks[1:]))
        if self.cuda:
            self.marks[-1].synchronize()
            return [a.elapsed_time(b) for a, b in pairs]
        return [(b - a) * 1e3 for a, b in pairs]


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def over_ranks(value, world, device, op=dist.ReduceOp.MAX):
    """The largest of the processes' values, or their reduction by `op`."""
    if world == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op)
    return tensor.tolist()


def measure(engine, batches, args, device, world):
    """Runs all steps: the first one alone (compilation), the rest of the warm-up, then the measured ones."""
    losses = []
    if world > 1:
        dist.barrier()
    synchronise(device)
    batch = batches.next()
    start = time.perf_counter()
    losses.append(engine.step(0, batch).clone())
    synchronise(device)
    first = time.perf_counter() - start
    say(f"first step {first:.1f} s, loss {losses[0].item():.4f}")
    for index in range(1, args.warmup):
        losses.append(engine.step(index, batches.next()).clone())
    synchronise(device)
    # Collections of Python's garbage while the GPU waits would be noise.
    gc.collect()
    gc.disable()
    clock = Clock(device)
    clock.mark()
    for index in range(args.warmup, args.warmup + args.steps):
        losses.append(engine.step(index, batches.next()).clone())
        clock.mark()
    times = clock.milliseconds()
    gc.enable()
    losses = over_ranks(torch.stack(losses).double().tolist(), world, device, dist.ReduceOp.SUM)
    return first, times, [loss / world for loss in losses]


def report(shape, args, device, world, first, times, losses):
    step_ms = over_ranks(statistics.median(times), world, device)
    peaks = [0, 0]
    if device.type == "cuda":
        peaks = [torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()]
    peak, reserved = (int(value) for value in over_ranks(peaks, world, device))
    rate = args.batch * shape.seq / step_ms * 1e3
    flops = shape.flops_per_token(args.mode)
    return {
        "engine": "torch",
        "mode": args.mode,
        "tokens_s_per_gpu": rate,
        "tflops": rate * flops / 1e12,
        "flops_per_token": flops,
        "flops_formula": FLOPS_FORMULA[args.mode],
        "step_ms": step_ms,
        "step_ms_min": min(times),
        "step_ms_max": max(times),
        "first_step_s": over_ranks(first, world, device),
        "peak_bytes": peak,
        "peak_reserved_bytes": reserved,
        "loss": losses[-1],
        "losses": losses,
        "params": shape.params,
        "batch": args.batch,
        "seq": shape.seq,
        "gpus": world,
        "steps": args.steps,
        "warmup": args.warmup,
        "data": "the same random tokens in all steps" if args.data == "same" else "new random tokens in every step",
        "choices": describe(args, world),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def describe(args, world):
    """The choices that this run made, for the report."""
    chosen = {"compile": args.compile, "compute": args.compute, "projections": args.projections}
    chosen |= {"attention": args.attention + ("+repeat" if args.repeat_kv else ""), "recompute": args.recompute}
    if args.mode == "train":
        chosen |= {"adamw": args.adamw, "clip": args.clip}
        chosen |= {"weights": args.weights} if world == 1 else {"reshard": args.reshard, "reduce": args.reduce}
    if args.memory_budget < 1.0:
        chosen["memory_budget"] = args.memory_budget
    return chosen


def run(args, rank, world):
    """One process's whole life; the result is the same in all of them."""
    device = torch.device(args.device, rank) if args.device == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        # NCCL's settings are the environment's; nothing here changes them.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=rank, world_size=world,
                                device_id=device if device.type == "cuda" else None)
    # Each parameter's shape is a program of the optimiser.
    torch._dynamo.config.recompile_limit = 64
    torch._functorch.config.activation_memory_budget = args.memory_budget
    shape = shape_of(args)
    choose_attention(args, shape, device, rank, world)
    compute = {"bf16": torch.bfloat16, "f32": torch.float32}[args.compute]
    choices = Choices(args.projections == "packed", args.repeat_kv, args.recompute == "full", compute)
    total = args.warmup + args.steps
    if args.mode == "eval":
        engine = Evaluator(shape, choices, args, device)
    elif world == 1:
        engine = SingleTrainer(shape, choices, args, device, total)
    else:
        engine = ShardedTrainer(shape, choices, args, device, total, rank, world)
    batches = Batches(shape, args, device, rank, rotary_tables(shape, device))
    if device.type == "cuda":
        # Making the first parameters and timing attention is not what is measured.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    result = report(shape, args, device, world, *measure(engine, batches, args, device, world))
    if world > 1:
        # Together: who leaves first takes the others' connections along.
        dist.barrier()
        dist.destroy_process_group()
    if not all(math.isfinite(loss) for loss in result["losses"]):
        raise PeerError(f"the loss is not finite: {result['losses']}")
    return result


def choose_attention(args, shape, device, rank, world):
    """Settles `--attention auto` on the first process and tells the others."""
    args.repeat_kv = False
    if device.type != "cuda" or args.compute != "bf16":
        args.attention = "default"
    if args.attention == "auto":
        choice = [fastest_backend(shape, args.batch, args.mode, device) if rank == 0 else None]
        if world > 1:
            dist.broadcast_object_list(choice, 0, device=device)
        args.attention, args.repeat_kv = choice[0]
        torch.cuda.empty_cache()
    select_backend(args.attention)


# ---------------------------------------------------------------------------------------------------------------------
# Command line

QUIET = False


def say(text):
    """Progress, from the first process only."""
    if not QUIET:
        print(text, file=sys.stderr, flush=True)


def child(rank, args, port, queue):
    """The entry of one of several processes."""
    global QUIET
    QUIET = rank != 0
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank),
                      WORLD_SIZE=str(args.gpus))
    result = run(args, rank, args.gpus)
    if rank == 0:
        queue.put(result)


def launch(args):
    """Runs on all GPUs that were asked for and gives the report."""
    if args.gpus == 1:
        return run(args, 0, 1)
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    queue = torch.multiprocessing.get_context("spawn").SimpleQueue()
    context = torch.multiprocessing.spawn(child, args=(args, port, queue), nprocs=args.gpus, join=False)
    # Emptied while waiting: a long report would fill the pipe and keep its writer from ending. A process that fails
    # ends the wait with its own trace.
    result, ended = None, False
    while not ended:
        ended = context.join(timeout=0.2)
        if result is None and not queue.empty():
            result = queue.get()
    return result


def variants(args):
    """Settings that `--sweep` tries: all that change speed and not the result."""
    packings = [["--projections", name] for name in ("packed", "separate")]
    if args.mode == "eval":
        return packings
    if args.gpus == 1:
        states = [["--weights", "shadow", "--adamw", "compiled"], ["--weights", "cast", "--adamw", "compiled"],
                  ["--weights", "cast", "--adamw", "fused"]]
    else:
        states = [["--adamw", adamw, reshard] for reshard in ("--no-reshard", "--reshard") for adamw in ("compiled", "fused")]
    return [state + packing for state in states for packing in packings]


def sweep(args):
    """Runs each variant in a process of its own and gives the fastest one's report with all figures beside it."""
    own = [word for word in sys.argv[1:] if word not in ("--sweep", "--json")]
    reports, tried = [], []
    for variant in variants(args):
        say(f"--- {' '.join(variant)}")
        command = [sys.executable, os.path.abspath(__file__), *own, *variant, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        entry = {"variant": " ".join(variant)}
        if done.returncode == 0:
            result = json.loads(done.stdout.splitlines()[-1])
            reports.append(result)
            entry |= {key: result[key] for key in ("step_ms", "tokens_s_per_gpu", "first_step_s", "peak_bytes")}
            say(f"    {result['step_ms']:.1f} ms, {result['tokens_s_per_gpu']:.0f} tokens/s per GPU")
        else:
            entry["failed"] = done.returncode
        tried.append(entry)
    if not reports:
        raise PeerError("no variant ran; the messages above say why")
    return max(reports, key=lambda result: result["tokens_s_per_gpu"]) | {"sweep": tried}


def shape_of(args):
    return Shape(args.layers, args.dim, args.heads, args.kv_heads or args.heads, args.ffn, args.vocab, args.seq, args.tied,
                 args.rope_theta, args.norm_eps)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def parse():
    """The defaults are the model of 953 million parameters on one GPU."""
    parser = argparse.ArgumentParser(description="Times training or evaluation of a Llama in PyTorch.", allow_abbrev=False)
    add = parser.add_argument
    add("--mode", choices=("train", "eval"), default="train")
    sizes = {"layers": 16, "dim": 2048, "heads": 16, "kv-heads": None, "ffn": 5632, "vocab": 32000, "seq": 2048}
    for name, default in sizes.items():
        add(f"--{name}", type=positive, default=default)
    add("--batch", type=positive, default=8, help="sequences per GPU and step")
    add("--tied", action="store_true", help="the head is the embedding's matrix")
    add("--rope-theta", type=float, default=10_000.0)
    add("--norm-eps", type=float, default=1e-6)
    add("--gpus", type=positive, default=1)
    add("--steps", type=positive, default=20, help="measured steps")
    add("--warmup", type=positive, default=5, help="steps before them, the first (compiling) one included")
    add("--seed", type=int, default=42)
    add("--data", choices=("same", "fresh"), default="same")
    add("--optimizer", choices=("adamw",), default="adamw")
    for name, default in {"lr": 1.17e-4, "beta1": 0.9, "beta2": 0.95, "adam-eps": 1e-8, "weight-decay": 0.1}.items():
        add(f"--{name}", type=float, default=default)
    add("--clip", type=float, default=1.0, help="global norm that gradients are clipped to")
    add("--no-clip", dest="clip", action="store_const", const=None)
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--compute", choices=("bf16", "f32"), default="bf16")
    add("--compile", choices=("default", "max-autotune-no-cudagraphs", "none"), default="default")
    add("--attention", choices=("auto", "default", *BACKENDS), default="auto")
    add("--weights", choices=("shadow", "cast"), help="shadow, unless --adamw fused")
    add("--adamw", choices=("compiled", "fused"), default="compiled")
    add("--projections", choices=("packed", "separate"), default="packed")
    add("--recompute", choices=("none", "full"), default="none", help="recompute the blocks' activations in the backward pass")
    add("--memory-budget", type=float, default=1.0, help="share of activations that the compiler may keep")
    add("--reshard", action=argparse.BooleanOptionalAction, default=True, help="FSDP2 frees the blocks after their forward pass")
    add("--reduce", choices=("float32", "bfloat16"), default="float32", help="type in which FSDP2 sums gradients")
    add("--sweep", action="store_true", help="try the choices above and report the fastest")
    add("--json", action="store_true", help="only the JSON line on standard output")
    args = parser.parse_args()
    args.weights = args.weights or ("shadow" if args.adamw == "compiled" else "cast")
    return args


def check(args):
    """Refuses what cannot run, with the reason."""
    shape_of(args).check()
    if args.mode == "train" and args.gpus == 1 and args.weights == "shadow" and args.adamw == "fused":
        raise PeerError("--adamw fused updates the model's own parameters; use it with --weights cast")
    if not 0.0 <= args.memory_budget <= 1.0:
        raise PeerError("--memory-budget must be between 0 and 1")
    if args.device == "cuda":
        if not torch.cuda.is_available():
            raise PeerError(f"PyTorch {torch.__version__} sees no GPU; run it on one, or with --device cpu")
        if torch.cuda.device_count() < args.gpus:
            raise PeerError(f"--gpus {args.gpus}, but PyTorch sees {torch.cuda.device_count()}")


def show(result):
    """The figures for people."""
    gib = 2**30
    print(f"{result['device']} x {result['gpus']}, PyTorch {result['torch']}, {result['params']:,} parameters, "
          f"batch {result['batch']} x {result['seq']}")
    print(f"{result['mode']}: {result['step_ms']:.1f} ms per step (median of {result['steps']}), "
          f"{result['tokens_s_per_gpu']:,.0f} tokens/s per GPU, {result['tflops']:.1f} TFLOP/s")
    print(f"TFLOP/s counts {result['flops_formula']} = {result['flops_per_token']:,}")
    print(f"first step {result['first_step_s']:.1f} s, peak {result['peak_bytes'] / gib:.1f} GiB allocated, "
          f"{result['peak_reserved_bytes'] / gib:.1f} GiB reserved, loss {result['losses'][0]:.4f} -> {result['loss']:.4f}")


def main():
    args = parse()
    try:
        check(args)
        result = sweep(args) if args.sweep else launch(args)
    except (PeerError, torch.OutOfMemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not args.json:
        show(result)
    print(json.dumps(result, allow_nan=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
