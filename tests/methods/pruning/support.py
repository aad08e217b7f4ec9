"""What tests of masks share."""

QKV = "blocks.0.attn.qkv.weight"


def kept(masks):
    return sum(int(mask.sum()) for mask in masks.values())
