"""MAE: masked autoencoding of image patches.

Source: K. He et al., Masked autoencoders are scalable vision learners (arXiv 2111.06377), section 3.
Start from `MaskedAutoencoder`; shapes: B images, L patches of p x p pixels, C channels, D the encoder's width.
"""

from __future__ import annotations

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) to (B, L, p p C), patches by rows, within a patch rows, columns, channels."""
    batch, channels, height, width = images.shape
    cells = images.reshape(batch, channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch_size**2 * channels)


def random_mask(noise: Tensor, ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which patches stay: those of the smallest noise (B, L).

    Returns:
        kept: (B, K) indices of the K = L - round(L ratio) patches that stay, in the shuffled order.
        restore: (B, L), where each patch went in that order: the inverse of the shuffle.
        mask: (B, L), 1 where a patch is removed.
    """
    count = noise.shape[1] - round(noise.shape[1] * ratio)
    shuffle = noise.argsort(dim=1)
    restore = shuffle.argsort(dim=1)
    return shuffle[:, :count], restore, (restore >= count).float()


def mae_loss(images: Tensor, predictions: Tensor, mask: Tensor, patch_size: int, *, normalised: bool = True) -> Tensor:
    """Mean squared error of predicted pixels (B, L, p p C), over removed patches only.

    `normalised` takes from each patch its mean and divides by its standard deviation (unbiased, 1e-6 added to the variance).
    """
    target = patchify(_single(images), patch_size)
    if normalised:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    by_patch = (_single(predictions) - target).square().mean(-1)
    return (by_patch * mask).sum() / mask.sum()


def taken(tokens: Tensor, indices: Tensor) -> Tensor:
    """Tokens (B, L, D) at indices (B, K): (B, K, D)."""
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))


class MaskedAutoencoder(nn.Module):
    """An encoder that sees the kept patches alone, and a small decoder that paints the others.

    Args:
        encoder: timm ViT with a class token; its position embedding becomes fixed sines and cosines.
        mask_ratio: share of patches removed.
    """

    def __init__(self, encoder: VisionTransformer, *, decoder_dim: int, decoder_depth: int, decoder_heads: int, mask_ratio: float):
        super().__init__()
        self.encoder, self.mask_ratio = encoder, mask_ratio
        self.patch_size = encoder.patch_embed.patch_size[0]
        grid = encoder.patch_embed.grid_size
        encoder.pos_embed = _fixed_positions(grid, encoder.embed_dim)
        self.positions = _fixed_positions(grid, decoder_dim)
        self.embed = nn.Linear(encoder.embed_dim, decoder_dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, decoder_dim))
        self.decoder = nn.Sequential(*[Block(decoder_dim, decoder_heads, qkv_bias=True) for _ in range(decoder_depth)])
        self.norm = nn.LayerNorm(decoder_dim)
        self.pixels = nn.Linear(decoder_dim, self.patch_size**2 * encoder.patch_embed.proj.in_channels)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """The loss; images (B, C, H, W), noise (B, L) that draws the mask."""
        kept, restore, mask = random_mask(noise, self.mask_ratio)
        return mae_loss(images, self.decode(self.encode(images, kept), restore), mask, self.patch_size)

    def encode(self, images: Tensor, kept: Tensor) -> Tensor:
        """Class token and kept patches after the encoder; (B, 1 + K, D)."""
        encoder = self.encoder
        patches = taken(encoder.patch_embed(images) + encoder.pos_embed[:, 1:], kept)
        cls = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(images), -1, -1)
        return encoder.norm(encoder.blocks(torch.cat([cls, patches], dim=1)))

    def decode(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """Pixels of all patches (B, L, p p C) from the encoded ones, mask tokens in place of the removed."""
        tokens = self.embed(tokens)
        missing = restore.shape[1] + 1 - tokens.shape[1]
        shuffled = torch.cat([tokens[:, 1:], self.mask_token.to(tokens.dtype).expand(len(tokens), missing, -1)], dim=1)
        every = torch.cat([tokens[:, :1], taken(shuffled, restore)], dim=1) + self.positions
        return self.pixels(self.norm(self.decoder(every)))[:, 1:]


def _fixed_positions(grid: tuple[int, int], dim: int) -> nn.Parameter:
    """Sines and cosines for the grid, zero for the class token; (1, 1 + L, dim), without gradient."""
    patches = build_sincos2d_pos_embed(list(grid), dim=dim, interleave_sin_cos=False)
    return nn.Parameter(torch.cat([torch.zeros(1, dim), patches])[None], requires_grad=False)


def _single(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
