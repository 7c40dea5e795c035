"""Times PyTorch and transformers beside rlvr::cuda on one GPU, and prints the ratios.

    python3 decoder.py --binary <build folder>/benchmarks/cuda/cuda_speed    needs torch; for sampling also transformers
    python3 decoder.py --device cpu --tiny                                   shows on any machine that the script works

gradient   32768 tokens in sequences of 512, 1024 and 2048, a quarter of each the prompt, random models in the shapes of
           Qwen3-0.6B and 4B: the gradient of sum_t c_t log pi(y_t) over the completions. PyTorch: bfloat16 parameters
           and gradients, layers and loss compiled, flash attention (else memory-efficient), activations kept (by rlvr
           too, of as many layers as fit), micro-batches of 16384 tokens, halved until they fit. Model flops are counted
           alike: 6 per parameter and token that it sees, and 12 per pair of positions and number in a head.
attention  of one layer in these shapes, the same tokens, causal, with fewer heads of keys than of queries: forward,
           with what the backward needs, and backward, by torch's cuDNN and by its flash attention. By its definition
           two products forward and five backward are counted. rlvr multiplies seven backward, so that the same bits
           come every time; these may add up dq by atomics, in any order.
sampling   1024 rollouts of 256 tokens from the 0.6B shape, prompts of 128 tokens, temperature 1: generate of
           transformers, all at once, or as many as fit.
rates      an 8192 x 8192 x 8192 bfloat16 product and a device-to-device copy of 1 GB.

Shapes and counts are those of cuda_speed, which runs between the peers on the same idle GPU. Of a peer's runs the
fastest counts, of cuda_speed's the mean. What fails is named in the last lines, and the rest goes on. Exit status: 0
when all that was asked for is there, 1 when something is missing, 77 without torch or a GPU.
"""
import argparse
import gc
import json
import os
import pathlib
import subprocess
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(f"skipped: decoder.py needs torch: {error}")
    sys.exit(77)

SHAPES = {
    "0.6B": dict(hidden=1024, mlp=3072, layers=28, heads=16, kv_heads=8, head_dim=128, vocab=151936),
    "4B": dict(hidden=2560, mlp=9728, layers=36, heads=32, kv_heads=8, head_dim=128, vocab=151936),
}
TINY = dict(hidden=32, mlp=48, layers=2, heads=4, kv_heads=2, head_dim=8, vocab=300)
PARTS = ["rates", "gradient", "attention", "sampling"]
BACKENDS = {"cuDNN": "CUDNN_ATTENTION", "flash": "FLASH_ATTENTION"}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--binary", help="cuda_speed; without it only the peers are timed")
    parser.add_argument("--libraries", help="LD_LIBRARY_PATH of the binary, where it is not that of this program")
    parser.add_argument("--json", help="what cuda_speed has written before, instead of running it")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--lengths", nargs="+", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small shapes, and the model is checked")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"no part is called {part}")
    options.parts = options.parts or PARTS
    options.lengths = options.lengths or ([16, 32, 64] if options.tiny else [512, 1024, 2048])
    options.tokens = 128 if options.tiny else 32768
    options.micro_batch = 64 if options.tiny else 16384
    options.rollouts, options.new_tokens, options.prompt = (32, 8, 8) if options.tiny else (1024, 256, 128)
    if options.tiny:
        SHAPES.update({name: TINY for name in SHAPES})
    return options


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(f, device, repeats, calls=1):
    """Of one call: the fastest of some runs of `calls` calls, after two that do not count (torch compiles in both)."""
    best = float("inf")
    for i in range(repeats + 2):
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(calls):
            f()
        synchronize(device)
        if i >= 2:
            best = min(best, time.perf_counter() - begin)
    return best / calls


def free():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# The decoder: names are those of a checkpoint, linear layers without biases.


def rms_norm(x, w):
    return F.rms_norm(x, (x.shape[-1],), w, 1e-6)


def rotate(x, cosines, sines):
    a, b = x.chunk(2, -1)
    return x * cosines + torch.cat((-b, a), -1) * sines


def layer(x, w, cosines, sines, shape):
    n, length, _ = x.shape

    def heads(name, count):
        return F.linear(h, w[f"self_attn.{name}_proj.weight"]).view(n, length, count, shape["head_dim"])

    h = rms_norm(x, w["input_layernorm.weight"])
    q = rms_norm(heads("q", shape["heads"]), w["self_attn.q_norm.weight"]).transpose(1, 2)
    k = rms_norm(heads("k", shape["kv_heads"]), w["self_attn.k_norm.weight"]).transpose(1, 2)
    v = heads("v", shape["kv_heads"]).transpose(1, 2)
    q, k = rotate(q, cosines, sines), rotate(k, cosines, sines)
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    x = x + F.linear(attended.transpose(1, 2).reshape(n, length, -1), w["self_attn.o_proj.weight"])
    h = rms_norm(x, w["post_attention_layernorm.weight"])
    gated = F.silu(F.linear(h, w["mlp.gate_proj.weight"])) * F.linear(h, w["mlp.up_proj.weight"])
    return x + F.linear(gated, w["mlp.down_proj.weight"])


def weighted_log_probs(x, norm, head, targets, coefficients):
    logits = F.linear(rms_norm(x, norm), head).float()
    return (coefficients * (logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1))).sum()


class decoder:
    def __init__(self, shape, device, dtype):
        self.shape, self.device, self.dtype = shape, device, dtype
        generator = torch.Generator(device).manual_seed(0)

        def matrix(rows, columns):
            w = torch.empty(rows, columns, device=device, dtype=dtype).uniform_(-0.035, 0.035, generator=generator)
            return w.requires_grad_()

        def ones(n):
            return torch.ones(n, device=device, dtype=dtype).requires_grad_()

        hidden, mlp, dim = shape["hidden"], shape["mlp"], shape["head_dim"]
        q, kv = shape["heads"] * dim, shape["kv_heads"] * dim
        self.embedding, self.norm = matrix(shape["vocab"], hidden), ones(hidden)
        self.layers = [{
            "input_layernorm.weight": ones(hidden), "post_attention_layernorm.weight": ones(hidden),
            "self_attn.q_norm.weight": ones(dim), "self_attn.k_norm.weight": ones(dim),
            "self_attn.q_proj.weight": matrix(q, hidden), "self_attn.k_proj.weight": matrix(kv, hidden),
            "self_attn.v_proj.weight": matrix(kv, hidden), "self_attn.o_proj.weight": matrix(hidden, q),
            "mlp.gate_proj.weight": matrix(mlp, hidden), "mlp.up_proj.weight": matrix(mlp, hidden),
            "mlp.down_proj.weight": matrix(hidden, mlp)} for _ in range(shape["layers"])]
        self.layer, self.loss = layer, weighted_log_probs

    def parameters(self):
        return [self.embedding, self.norm] + [w for layer in self.layers for w in layer.values()]

    def compile(self):
        self.layer = torch.compile(layer, dynamic=False)
        self.loss = torch.compile(weighted_log_probs, dynamic=False)

    def value(self, tokens, prompt, coefficients):
        """sum_t c_t log pi(y_t) over tokens[:, prompt:]; coefficients like them."""
        dim, length = self.shape["head_dim"], tokens.shape[1] - 1  # nothing follows the last token
        angles = torch.arange(length, device=self.device)[:, None] * 1e6 ** -(
            torch.arange(0, dim, 2, device=self.device).float() / dim)
        angles = torch.cat((angles, angles), -1)
        cosines, sines = angles.cos().to(self.dtype), angles.sin().to(self.dtype)
        x = F.embedding(tokens[:, :-1], self.embedding)
        for w in self.layers:
            x = self.layer(x, w, cosines, sines, self.shape)
        return self.loss(x[:, prompt - 1:], self.norm, self.embedding, tokens[:, prompt:], coefficients)


def transformers_model(shape, dtype, device):
    import transformers

    config = transformers.Qwen3Config(
        vocab_size=shape["vocab"], hidden_size=shape["hidden"], intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"], tie_word_embeddings=True, max_position_embeddings=40960, rope_theta=1e6,
        rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=None, pad_token_id=0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval()


def check_decoder():
    """The value and its gradient are those of transformers."""
    ours, theirs = decoder(TINY, "cpu", torch.float64), transformers_model(TINY, torch.float64, "cpu")
    names = dict(theirs.named_parameters())
    pairs = [(ours.embedding, names.pop("model.embed_tokens.weight")), (ours.norm, names.pop("model.norm.weight"))]
    for i, layer_weights in enumerate(ours.layers):
        pairs += [(w, names.pop(f"model.layers.{i}.{name}")) for name, w in layer_weights.items()]
    assert not names, list(names)
    with torch.no_grad():
        for a, b in pairs:
            a.mul_(10) if a.dim() > 1 else a.add_(torch.linspace(-0.2, 0.2, len(a)))
            b.copy_(a)
    tokens = torch.randint(TINY["vocab"], (3, 17), generator=torch.Generator().manual_seed(1))
    coefficients = torch.linspace(-1, 1, 3 * 12, dtype=torch.float64).view(3, 12)
    value = ours.value(tokens, 5, coefficients)
    log_p = theirs(tokens).logits[:, 4:-1].log_softmax(-1).gather(-1, tokens[:, 5:, None])[..., 0]
    expected = (coefficients * log_p).sum()
    value.backward()
    expected.backward()
    errors = [abs(value - expected) / abs(expected)] + [(a.grad - b.grad).norm() / b.grad.norm() for a, b in pairs]
    # transformers takes rotary angles and norms in float32, whatever the model's type.
    worst = max(error.item() for error in errors)
    print(f"The decoder here and that of transformers: relative difference {worst:.1e}")
    if not worst < 1e-5:
        sys.exit("decoder.py: its decoder is not Qwen3's")


def model_flops(shape, tokens, length, scored):
    """Of a gradient: the head sees the scored tokens only."""
    head = shape["vocab"] * shape["hidden"]
    q, kv = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    body = shape["layers"] * shape["hidden"] * (2 * q + 2 * kv + 3 * shape["mlp"])
    return 6 * (body * tokens + head * scored) + 12 * tokens * length / 2 * shape["layers"] * q


def gradient(options, size, length, micro_batch):
    """Tokens per second, flops per second and the micro-batch's tokens: so many, or as many as fit."""
    device, dtype = options.device, torch.bfloat16
    shape = SHAPES[size]
    model = decoder(shape, device, dtype)
    model.compile()
    count, prompt = options.tokens // length, length // 4
    generator = torch.Generator(device).manual_seed(1)
    tokens = torch.randint(shape["vocab"], (count, length), device=device, generator=generator)
    coefficients = 2 * torch.rand(count, length - prompt, device=device, generator=generator) - 1
    at_once = max(1, min(micro_batch, options.tokens) // length)

    def run():
        for p in model.parameters():
            p.grad = None
        for i in range(0, count, at_once):
            model.value(tokens[i:i + at_once], prompt, coefficients[i:i + at_once]).backward()

    while True:
        torch._dynamo.reset()  # it gives up compiling after eight shapes
        try:
            if device == "cuda":
                from torch.nn.attention import SDPBackend, sdpa_kernel
                with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
                    spent = seconds(run, device, options.repeats)
            else:
                spent = seconds(run, device, options.repeats)
            break
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise
        at_once //= 2  # outside the handler, which holds the failed pass's tensors
        free()
    flops = model_flops(shape, count * length, length, coefficients.numel())
    return {"tokens_per_second": count * length / spent, "flops": flops / spent, "micro_batch": at_once * length}


def attention(options, size, length, backend):
    """Flops per second of a forward and of a backward pass."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    shape, device, count = SHAPES[size], options.device, options.tokens // length
    generator = torch.Generator(device).manual_seed(1)

    def heads(n):  # as a linear layer leaves them
        x = torch.rand(count, length, n, shape["head_dim"], device=device, dtype=torch.bfloat16, generator=generator)
        return (2 * x - 1).transpose(1, 2)

    q, dout = heads(shape["heads"]).requires_grad_(), heads(shape["heads"])
    k, v = heads(shape["kv_heads"]).requires_grad_(), heads(shape["kv_heads"]).requires_grad_()

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    with sdpa_kernel(getattr(SDPBackend, backend)):
        out = forward()
        calls = 1 if options.tiny else 50
        spent = {"forward": seconds(forward, device, options.repeats, calls),
                 "backward": seconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True), device,
                                     options.repeats, calls)}
    product = 2 * options.tokens * length / 2 * shape["heads"] * shape["head_dim"]
    return {"forward": 2 * product / spent["forward"], "backward": 5 * product / spent["backward"]}


def sampling(options):
    """Tokens per second and rollouts at once."""
    device = options.device
    shape = SHAPES["0.6B"]
    model = transformers_model(shape, torch.bfloat16, device)
    generator = torch.Generator(device).manual_seed(1)
    prompts = torch.randint(1, shape["vocab"], (options.rollouts // 16, options.prompt), device=device,
                            generator=generator).repeat_interleave(16, 0)
    at_once = options.rollouts

    def generate(rows, new_tokens):
        with torch.inference_mode():
            return model.generate(rows, attention_mask=torch.ones_like(rows), do_sample=True, temperature=1.0, top_k=0,
                                  top_p=1.0, max_new_tokens=new_tokens, min_new_tokens=new_tokens, pad_token_id=0)

    while True:
        try:
            generate(prompts[:at_once], 4)
            synchronize(device)
            begin = time.perf_counter()
            made = sum(generate(prompts[i:i + at_once], options.new_tokens).numel() - prompts[i:i + at_once].numel()
                       for i in range(0, options.rollouts, at_once))
            synchronize(device)
            spent = time.perf_counter() - begin
            break
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise
        at_once //= 2
        free()
    assert made == options.rollouts * options.new_tokens, made
    return {"tokens_per_second": made / spent, "at_once": at_once}


def rates(options):
    device = options.device
    m, n = (64, 1 << 12) if options.tiny else (8192, 1 << 28)
    a, b = (2 * torch.rand(m, m, device=device, dtype=torch.bfloat16) - 1 for _ in range(2))
    c = torch.empty_like(a)
    product = 2 * m**3 / seconds(lambda: torch.mm(a, b.T, out=c), device, options.repeats, 20)
    x = torch.rand(n, device=device)
    y = torch.empty_like(x)
    return {"products": product, "copy": 8 * n / seconds(lambda: y.copy_(x), device, options.repeats, 10)}


def rlvr(options, pattern):
    """Counters of cuda_speed by name, without what Google Benchmark adds to it."""
    if options.json:
        report = json.loads(pathlib.Path(options.json).read_text())
    elif options.binary:
        libraries = {} if options.libraries is None else {"LD_LIBRARY_PATH": options.libraries}
        done = subprocess.run([options.binary, f"--benchmark_filter={pattern}", "--benchmark_format=json"],
                              capture_output=True, text=True, env={**os.environ, **libraries})
        if done.returncode != 0:
            print(f"{options.binary} failed ({done.returncode}): {done.stderr.strip()}", flush=True)
        try:
            report = json.loads(done.stdout)
        except ValueError:  # it has not come to its end
            return {}
    else:
        return {}
    for b in report["benchmarks"]:
        if b.get("error_occurred"):
            print(f"{b['name']}: {b.get('error_message')}", flush=True)
    return {b["name"].split("/iterations:")[0]: b for b in report["benchmarks"] if not b.get("error_occurred")}


def main():
    options = parse()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"skipped: torch {torch.__version__} finds no GPU (--device cpu --tiny needs none)")
        sys.exit(77)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "the CPU"
    print(f"torch {torch.__version__} on {name}", flush=True)
    missing, rows = [], []
    try:
        import transformers
        print(f"transformers {transformers.__version__}", flush=True)
        if options.tiny:
            check_decoder()
    except ImportError as error:
        transformers = None
        if "sampling" in options.parts:
            missing.append(f"sampling of transformers: {error}")
    ours_asked = bool(options.binary or options.json)

    def row(what, ours, theirs, unit, ours_note="", theirs_note=""):
        ratio = f"{ours / theirs:.2f}" if ours and theirs else ""
        cells = [f"{x / unit[0]:,.{unit[2]}f} {unit[1]}{note}" if x else "" for x, note in
                 ((ours, ours_note), (theirs, theirs_note))]
        rows.append(f"| {what} | {cells[0]} | {cells[1]} | {ratio} |")
        print(rows[-1], flush=True)

    def of_rlvr(found, name):
        if ours_asked and name not in found:
            missing.append(f"{name} of cuda_speed")
        return found.get(name, {})

    def of_peer(what, f, *arguments):
        try:
            return f(*arguments)
        except Exception as error:  # of whatever kind: the rest is measured all the same
            missing.append(f"{what}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
            return {}
        finally:
            free()

    torch_rates = of_peer("rates of PyTorch", rates, options)  # of the utilisation below, too

    def of_products(of):
        share = of.get("of_products", of.get("flops", 0) / torch_rates.get("products", float("inf")))
        return f", {share:.2f} of products"

    if "rates" in options.parts:
        found = rlvr(options, "^(products|vectors/copy)")
        row("product 8192^3", of_rlvr(found, "products").get("flops"), torch_rates.get("products"),
            (1e12, "TFLOP/s", 0))
        row("copy", of_rlvr(found, "vectors/copy").get("bytes_per_second"), torch_rates.get("copy"), (1e9, "GB/s", 0))
    if "gradient" in options.parts:
        for size in options.sizes:
            found = rlvr(options, f"^gradient/{size}/({'|'.join(map(str, options.lengths))})/")
            micro_batch = options.micro_batch
            for length in options.lengths:
                what = f"gradient {size}, {length}"
                ours = of_rlvr(found, f"gradient/{size}/{length}")
                theirs = of_peer(f"{what} of PyTorch", gradient, options, size, length, micro_batch)
                micro_batch = theirs.get("micro_batch", micro_batch)  # what did not fit need not be tried again
                row(what, ours.get("tokens_per_second"), theirs.get("tokens_per_second"), (1, "tokens/s", 0),
                    of_products(ours), of_products(theirs))
    if "attention" in options.parts:
        backends = BACKENDS if options.device == "cuda" else {"flash": BACKENDS["flash"]}
        for size in options.sizes:
            lengths = "|".join(map(str, options.lengths))
            found = rlvr(options, f"^attention/{size}/(forward|backward)/({lengths})/")
            for length in options.lengths:
                theirs = {name: of_peer(f"attention {size}, {length} of PyTorch by {name}", attention, options, size,
                                        length, backend) for name, backend in backends.items()}
                for what in ("forward", "backward"):
                    ours = of_rlvr(found, f"attention/{size}/{what}/{length}")
                    for name, flops in theirs.items():
                        row(f"attention {size}, {length}, {what}; {name}", ours.get("flops"), flops.get(what),
                            (1e12, "TFLOP/s", 0), of_products(ours), of_products({"flops": flops.get(what, 0)}))
    if "sampling" in options.parts:
        found = rlvr(options, "^sampling/[0-9]")
        ours, theirs = of_rlvr(found, f"sampling/{options.rollouts}/{options.new_tokens}"), {}
        if transformers:
            theirs = of_peer("sampling of transformers", sampling, options)
        row(f"sampling {options.rollouts} x {options.new_tokens}", ours.get("tokens_per_second"),
            theirs.get("tokens_per_second"), (1, "tokens/s", 0), f", {ours.get('of_bandwidth', 0):.2f} of bandwidth",
            f", {theirs.get('at_once', 0)} at once")
    print("\n| | rlvr::cuda | PyTorch | ratio |\n|---|---|---|---|")
    print("\n".join(rows))
    for what in missing:
        print(f"missing: {what}")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
