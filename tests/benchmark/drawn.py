"""How lmms-eval shows and scores the drawn pictures; its own environment imports this file."""


def picture(doc):
    return [doc["image"].convert("RGB")]


def score(doc, results):
    """1 where the reply is the answer, but for spaces: the tiny tokenizer has its own."""
    return {"accuracy": float("".join(results[0].split()) == "".join(doc["answer"].split()))}
