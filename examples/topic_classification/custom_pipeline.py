"""What a text-classification pipeline does, in twenty lines: tokenise, no gradient, softmax, the best label's name.

python custom_pipeline.py registry/me/my-model "제목 하나" "제목 둘"     ->  a JSON line a title
"""

import json
import sys
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class CustomPipeline:
    """The same labels and scores as transformers' own pipeline("text-classification")."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        """["title"] -> [{"label": "sport", "score": 0.93}]"""
        batch = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        best = torch.softmax(self.model(**batch).logits, dim=-1).max(dim=-1)
        names = self.model.config.id2label
        return [{"label": names[i], "score": score} for i, score in zip(best.indices.tolist(), best.values.tolist())]


if __name__ == "__main__":
    for found in CustomPipeline(sys.argv[1])(sys.argv[2:]):
        print(json.dumps(found, ensure_ascii=False))
