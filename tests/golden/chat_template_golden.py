"""Writes chat_template_golden.json: conversations, and what the published chat templates make of them with Jinja.

    pip download --no-deps trl==1.16.0
    pip install jinja2
    python3 chat_template_golden.py trl-1.16.0-py3-none-any.whl

The wheel holds the chat_template fields of published tokenizer_config.json files: trl/chat_templates/qwen2_5.jinja
(Qwen2.5-Instruct), qwen3.jinja (Qwen3 of 2025-04, with and without enable_thinking) and deepseek_r1_distill.jinja.
Jinja is set up as transformers does it (trim_blocks, lstrip_blocks). 20 conversations by hand, then 20 by chance from
pieces that the templates look at; all end with a user's message, and a system message is the first if there is one.

    python3 chat_template_golden.py WHEEL COUNT OUT.json     more by chance, into another file
"""
import json
import pathlib
import random
import sys
import zipfile

import jinja2
import jinja2.sandbox

TEMPLATES = {
    "qwen2.5": ("qwen2_5.jinja", {}),
    "qwen3": ("qwen3.jinja", {}),
    "qwen3-no-thinking": ("qwen3.jinja", {"enable_thinking": False}),
    "r1-distill-qwen": ("deepseek_r1_distill.jinja", {"bos_token": "<｜begin▁of▁sentence｜>"}),
}

THOUGHT = "<think>\nfour\n</think>\n\n4"
BY_HAND = [
    ["u:2+2?"],
    ["u:"],
    ["s:", "u:2+2?"],
    ["s:Be brief.", "u:2+2?"],
    ["s:Be\nbrief.\n", "u: 2+2?\n"],
    ["u:2+2?", "a:4", "u:And 3?"],
    ["u:2+2?", "a:" + THOUGHT, "u:And 3?"],
    ["s:Be brief.", "u:2+2?", "a:" + THOUGHT, "u:And 3?", "a:" + THOUGHT, "u:And 5?"],
    ["u:2+2?", "a:</think>", "u:And 3?"],
    ["u:2+2?", "a:<think>open", "u:And 3?"],
    ["u:2+2?", "a:a</think>b</think>\n\n\nc\n", "u:And 3?"],
    ["u:<think>x</think>2+2?"],
    ["s:<think>x</think>", "u:y"],
    ["u:2+2?", "a:", "u:And 3?"],
    ["u:<|im_start|>user\nx<|im_end|>"],
    ["u:2+2?", "a:" + THOUGHT, "u:<tool_response>\n4\n</tool_response>"],
    ["u:2+2?", "a:4", "u:<tool_response>4</tool_response>", "a:" + THOUGHT, "u:<tool_response>5</tool_response>"],
    ["u:<tool_response>1</tool_response>", "a:" + THOUGHT, "u:<tool_response>2</tool_response>"],
    ["u:x", "a:<think>\na</think>mid<think>\n\nb\n</think>\n\nc", "u:<tool_response></tool_response>"],
    ["u:é 数 😀", "a:\n</think>\n ok", "u:\t"],
]
PIECES = ["2+2?", "four", " ", "\n", "\n\n", "<think>", "</think>", "\n<think>\n", "\n</think>\n\n", "<tool_response>",
          "</tool_response>", "<|im_end|>", "é数😀", "<｜User｜>"]


def by_chance(draw):
    def text(role):
        out = "".join(draw.choice(PIECES) for _ in range(draw.randrange(6)))
        return f"<tool_response>{out}</tool_response>" if role == "u" and draw.random() < 0.3 else out

    roles = ["s"] * (draw.random() < 0.4) + [draw.choice("ua") for _ in range(draw.randrange(6))] + ["u"]
    return [f"{role}:{text(role)}" for role in roles]


def main(wheel, count=20, out=pathlib.Path(__file__).with_name("chat_template_golden.json")):
    draw = random.Random(1)
    conversations = BY_HAND + [by_chance(draw) for _ in range(int(count))]
    role = {"s": "system", "u": "user", "a": "assistant"}
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    rendered = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, (file, values) in TEMPLATES.items():
            template = environment.from_string(archive.read(f"trl/chat_templates/{file}").decode())
            rendered[name] = [
                template.render(messages=[{"role": role[m[0]], "content": m[2:]} for m in c],
                                add_generation_prompt=True, **values) for c in conversations
            ]
    result = {"made_by": f"chat_template_golden.py, {pathlib.Path(wheel).name}, jinja2 {jinja2.__version__}",
              "conversations": conversations, "rendered": rendered}
    pathlib.Path(out).write_text(json.dumps(result, indent=0, ensure_ascii=False) + "\n")


main(*sys.argv[1:])
