"""Small random checkpoints in the layout, and with the names, of the published encoders' authors."""

import math

import numpy as np
import torch


class Draw:
    """Random tensors that depend on nothing but the seed."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape, scale=0.5, dtype=torch.float32):
        return torch.from_numpy(np.asarray(self.rng.normal(0, scale, shape))).to(dtype)

    def linear(self, name, outside, inside, bias=True, **options):
        tensors = {f"{name}.weight": self(outside, inside, **options)}
        return tensors | ({f"{name}.bias": self(outside, **options)} if bias else {})


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def satclip(orders=4, width=5, depth=2, dim=3, calculation="analytic", seed=0):
    """A Lightning checkpoint of satclip/main.py: the location side twice, beside the image side."""
    draw = Draw(seed)
    sizes = [orders**2, *[width] * depth]
    net = {}
    for i in range(depth):
        net |= draw.linear(f"layers.{i}", sizes[i + 1], sizes[i], scale=0.05 if i == 0 else 0.5, dtype=torch.float64)
    net |= draw.linear("last_layer", dim, width, dtype=torch.float64)
    whole = under("model.nnet.", net) | under("model.location.nnet.", net)
    whole |= {"model.logit_scale": draw(), "model.visual.fc.weight": draw(dim, 2)}
    hyper = {"le_type": "sphericalharmonics", "pe_type": "siren", "harmonics_calculation": calculation}
    return {"epoch": 499, "state_dict": whole, "hyper_parameters": hyper | {"legendre_polys": orders}}


def geoclip(seed=0):
    """The bare state dict of geoclip/model/location_encoder.py, whose sizes are fixed."""
    draw, tensors = Draw(seed), {}
    for i, sigma in enumerate((1, 16, 256)):
        tensors[f"LocEnc{i}.capsule.0.b"] = draw(256, 2, scale=sigma)
        for layer, inside in (("capsule.1", 512), ("capsule.3", 1024), ("capsule.5", 1024)):
            tensors |= draw.linear(f"LocEnc{i}.{layer}", 1024, inside, scale=0.04)
        tensors |= draw.linear(f"LocEnc{i}.head.0", 512, 1024, scale=0.04)
    return tensors


def csp(radii=3, width=6, dim=4, hidden=2, activation="leakyrelu", norm=True, skip=True, seed=0):
    """A checkpoint of main/trainer.py: `LocationImageEncoder` holds its location side by two names."""
    draw, net = Draw(seed), {}
    sizes = [4 * radii, *[width] * hidden, dim]
    for i in range(hidden + 1):
        net |= draw.linear(f"layers.{i}.linear", sizes[i + 1], sizes[i])
        if norm and i < hidden:
            net |= {f"layers.{i}.layernorm.weight": draw(width), f"layers.{i}.layernorm.bias": draw(width)}
    whole = under("loc_enc.spa_enc.ffn.", net) | under("spa_enc.ffn.", net)
    whole |= {"loc_enc.class_emb.weight": draw(7, dim), "img_dec.weight": draw(dim, 5), "img_dec.bias": draw(dim)}
    params = {"spa_enc_type": "gridcell", "freq_init": "geometric", "spa_f_act": activation, "frequency_num": radii}
    params |= {"min_radius": 0.1, "max_radius": 360.0, "use_layn": norm, "skip_connection": skip, "num_filts": dim}
    return {"epoch": 30, "state_dict": whole, "optimizer": {"state": {}}, "params": params}


def sinr(width=5, depth=2, columns=4, species=6, input_enc="sin_cos", seed=0):
    """A checkpoint of train.py."""
    draw = Draw(seed)
    tensors = {"class_emb.weight": draw(species, width)} | draw.linear("feats.0", width, columns)
    for i in range(depth):
        tensors |= draw.linear(f"feats.{i + 2}.w1", width, width) | draw.linear(f"feats.{i + 2}.w2", width, width)
    return {"state_dict": tensors, "params": {"input_enc": input_enc, "class_to_taxa": [3, 5], "num_classes": species}}


def tte(sites=6, site_dim=3, tokens=4, dim=5, width=4, depth=2, seed=0):
    """A Lightning checkpoint of train/lightning_module.py."""
    draw = Draw(seed)
    tensors = {"_directions": draw(sites, 3, scale=1.0), "_embeddings": draw(sites, site_dim, scale=1.0)}
    tensors["_log_tau"] = math.log(8) + draw(sites)
    attention = {"registers": draw(tokens, dim), "log_temperature": draw(), "_img_temperature": torch.tensor(0.05)}
    attention |= draw.linear("loc_to_logits", tokens, site_dim) | draw.linear("img_to_logits", tokens, dim)
    attention |= draw.linear("site_to_out", dim, site_dim) if site_dim != dim else {}
    attention |= {"norm.weight": 1 + draw(dim), "norm.bias": draw(dim)}
    mlp = draw.linear("0", width, dim) | draw.linear(f"{depth + 2}", dim, width, bias=False)
    for i in range(depth):
        mlp |= draw.linear(f"{i + 2}.w1", width, width) | draw.linear(f"{i + 2}.w2", width, width)
    location = tensors | under("semantic_registers.", attention) | under("mlp.", mlp)
    return {"state_dict": under("model.location.", location) | {"model.image.fc.weight": draw(2, 2)}}


LAYOUTS = {"csp": csp, "geoclip": geoclip, "satclip": satclip, "sinr": sinr, "tte": tte}
