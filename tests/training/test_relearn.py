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


def _trained(base: Path, members: int, seed: int, kept: float = 0.0, **more: object) -> dict[str, object]:
    from sentiment.training.distributed import joined
    from sentiment.training.recipes import Relearning
    from sentiment.training.relearn import relearn

    settings = Relearning(
        members=members,
        seed=seed,
        kept=kept,
        epochs=4,
        learning_rate=0.01,
        precision="float32",
        max_tokens=48,
        batch_size=4,
    )
    with joined({}) as group:
        model, _ = relearn(
            [_mixture([0.0] * 12)] * members,  # type: ignore[list-item]
            base,
            settings,
            group=group,
            **{"report": lambda metrics, step: None, **more},  # type: ignore[arg-type]
        )
    return dict(model.state_dict())


def test_so_much_of_the_champion_is_kept(champion: Path) -> None:
    """The weights lie that far on the way back from where training ended to where it began."""
    import torch

    from sentiment.training.base import load_base

    name = "distilbert.transformer.layer.0.ffn.lin1.weight"
    ended, kept = (_trained(champion, 1, 1, kept=share)[name] for share in (0.0, 0.75))
    before = load_base(str(champion), max_tokens=48, dropout=0.1)[0].state_dict()[name]
    assert not torch.allclose(ended, before, atol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(kept, 0.25 * ended + 0.75 * before, atol=1e-6)  # type: ignore[arg-type, operator]


def test_the_candidate_is_the_average_of_its_members(champion: Path) -> None:
    """Each is what a run with its seed alone would be."""
    import torch

    both, first, second = (_trained(champion, members, seed) for members, seed in ((2, 5), (1, 5), (1, 6)))
    name = "distilbert.transformer.layer.0.ffn.lin1.weight"
    assert not torch.allclose(first[name], second[name], atol=1e-4)  # type: ignore[arg-type]
    for name, weight in both.items():
        assert torch.allclose(weight, (first[name] + second[name]) / 2, atol=1e-6)  # type: ignore[arg-type, operator]


@pytest.mark.parametrize("killed_at", [2, 12, 17])
def test_a_run_that_ended_in_any_member_goes_on_there(champion: Path, tmp_path: Path, killed_at: int) -> None:
    """Killed in the first or the second of two, it ends in the same weights as one left alone."""
    import torch

    class Killed(Exception):
        pass

    steps = 0

    def kill(folder: Path, identity: str, state: object) -> None:
        nonlocal steps
        save(folder, identity, state)  # type: ignore[arg-type]
        steps += 1
        if steps == killed_at:
            raise Killed

    from sentiment.training import relearn as module

    save = module.save_checkpoint
    alone = _trained(champion, 2, 1)
    arguments = {"checkpoints": tmp_path, "checkpoint_seconds": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save_checkpoint", kill)
        with pytest.raises(Killed):
            _trained(champion, 2, 1, **arguments)
    resumed = _trained(champion, 2, 1, **arguments)
    for name, weight in alone.items():
        assert torch.equal(resumed[name], weight)  # type: ignore[arg-type]
