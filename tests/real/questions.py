"""What the real model is asked, and what transformers makes of it.

Usage: python -m tests.real.questions GGUF
in an environment with torch and transformers. Writes references.json, from the dequantized weights in float32.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.real.small_model import write_folder

TARGET = Path(__file__).with_name("references.json")
COUNT, TEXT_IDS = 32, 64
ANSWERS = {
    "What is the capital of France?": "Paris",
    "What is the capital of Italy?": "Rome",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Spain?": "Madrid",
    "What is the capital of Germany?": "Berlin",
    "What is the capital of England?": "London",
    "What is the chemical symbol of water?": "H2O",
    "What is the capital of China?": "Beijing",
    "What gas do plants take in for photosynthesis?": "carbon dioxide",
    "Who painted the Mona Lisa?": "Leonardo da Vinci",
    "What is the opposite of hot?": "cold",
    "What is the largest ocean on Earth?": "Pacific Ocean",
}
TEXT = (
    "Water boils at a lower temperature on a mountain than at the sea. The air above a mountain is thinner, so it "
    "presses less on the surface of the water, and the water needs less heat to become steam. This is why food takes "
    "longer to cook in the mountains: the water is hot enough to boil, but not as hot as it would be near the coast."
)
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city, \u00bbnow\u00ab or <tomorrow>.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
TOOL_TEMPLATE = (
    "{%- if tools %}<|im_start|>system\nYou may call these functions:\n"
    "{%- for tool in tools %}\n{{ tool | tojson }}{%- endfor %}\n"
    '{{- \'Answer with <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\n\' }}{%- endif %}'
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def references() -> dict[str, Any]:
    """The ids of the text and its loss in nats for each token, the ids of the answers, and of a prompt with `TOOLS`."""
    found: dict[str, Any] = json.loads(TARGET.read_text())
    return found


def main(model: Path) -> None:
    """Ask transformers, with greedy decoding and eager attention."""
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as where:
        folder = write_folder(model, Path(where) / "smollm2", "llama")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )

    def prompt(text: str, **more: Any) -> list[int]:
        message = {"role": "user", "content": text}
        ids: list[int] = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False, **more)
        return ids

    answers: dict[str, list[int]] = {}
    for question in ANSWERS:
        ids = prompt(question)
        made = network.generate(torch.tensor([ids]), max_new_tokens=COUNT, do_sample=False)[0][len(ids) :].tolist()
        answers[question] = made[: made.index(2)] if 2 in made else made
    text = tokenizer(TEXT)["input_ids"]
    few = torch.tensor([text[:TEXT_IDS]])
    with torch.no_grad():
        loss = float(network(few, labels=few).loss)
    tools = prompt("What is the weather in Paris?", tools=TOOLS, chat_template=TOOL_TEMPLATE)
    TARGET.write_text(json.dumps({"loss": loss, "text": text, "tools": tools, "answers": answers}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
