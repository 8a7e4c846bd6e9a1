"""How the champion goes on learning: its targets, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.training


def _mixture(taught: list[float]) -> object:
    from sentiment.training.mixture import Mixture

    rows = len(taught)
    return Mixture(
        texts=tuple(f"the train number {row} is late" for row in range(rows)),
        labels=np.arange(rows, dtype=np.int64) % 3,
        weights=np.ones(rows),
        taught=np.array(taught),
        offsets=np.zeros((rows, 3)),
    )


def test_a_replayed_tweet_is_answered_as_the_champion_does(tiny_base: Path) -> None:
    """Taught wholly, a target is the champion's probabilities; not at all, its label, smoothed."""
    import torch

    from sentiment.training.base import load_base
    from sentiment.training.batching import tokenise
    from sentiment.training.inference import logits
    from sentiment.training.recipes import Relearning
    from sentiment.training.relearn import targets

    model, tokenizer = load_base(str(tiny_base), max_tokens=48, dropout=0.0)
    mixture = _mixture([0.0, 1.0, 0.5])
    tokens = tokenise(tokenizer, mixture.texts)  # type: ignore[attr-defined]
    settings = Relearning(label_smoothing=0.06, precision="float32")
    cpu = torch.device("cpu")
    found = targets(model, tokens, mixture, settings, cpu)  # type: ignore[arg-type]
    said = torch.softmax(torch.tensor(logits(model, tokens, cpu)), dim=1)
    label = torch.tensor([0.02, 0.02, 0.96])
    assert torch.allclose(found[0], torch.tensor([0.96, 0.02, 0.02]))
    assert torch.allclose(found[1], said[1], atol=1e-6)
    assert torch.allclose(found[2], (label + said[2]) / 2, atol=1e-6)


def test_so_much_of_the_champion_is_kept(tiny_base: Path) -> None:
    """The weights lie that far on the way back from where training ended to where it began."""
    import torch

    from sentiment.training.base import load_base
    from sentiment.training.distributed import joined
    from sentiment.training.recipes import Relearning
    from sentiment.training.relearn import relearn

    trained = {}
    for kept in (0.0, 0.75):
        settings = Relearning(
            kept=kept, epochs=4, learning_rate=0.01, precision="float32", max_tokens=48, batch_size=4
        )
        with joined({}) as group:
            model, _ = relearn(
                _mixture([0.0] * 12),  # type: ignore[arg-type]
                tiny_base,
                settings,
                group=group,
                report=lambda metrics, step: None,
            )
        trained[kept] = model.state_dict()
    before = load_base(str(tiny_base), max_tokens=48, dropout=0.1)[0].state_dict()
    name = "distilbert.transformer.layer.0.ffn.lin1.weight"
    assert not torch.allclose(trained[0.0][name], before[name], atol=1e-4)
    expected = 0.25 * trained[0.0][name] + 0.75 * before[name]
    assert torch.allclose(trained[0.75][name], expected, atol=1e-6)
