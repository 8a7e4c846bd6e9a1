"""The data of a cycle: what is trained on, and what is never trained on.

    champion/           the model folder that the candidate is fine-tuned from
    cycle.json          the CycleManifest
    feedback.jsonl      what was said of texts in this cycle and before, less what is judged on
    heldout.jsonl       a fifth of the texts: never trained on, in no cycle
    base.tsv            the base training set, less what is judged on
    validation.tsv      what the training is calibrated and chosen on
    golden.tsv          what the gate judges on
    fingerprints.json   what all this is; written last: a folder without it is unfinished

Which texts are held out is decided by a hash of the text, so that it is the same
in every cycle and for every correction of the text.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from sentiment.errors import DataError, InvalidModel
from sentiment.evaluation.data import LabelledTweets, read_tweets
from sentiment.evaluation.feedback_rows import FeedbackRow, encode_feedback
from sentiment.feedback.messages import text_key
from sentiment.feedback.store import CorrectionReader
from sentiment.manifest import MANIFEST, check_file, read_manifest
from sentiment.records import LABELS, Correction, DataFingerprint, FileEntry, Label, Sample
from sentiment.registry import ModelRegistry
from sentiment.retrain.near_duplicates import near_duplicate_pairs, near_duplicates
from sentiment.retrain.records import CycleManifest
from sentiment.retrain.state import encode

T = TypeVar("T")

CHAMPION_FOLDER = "champion"
CYCLE = "cycle.json"
FEEDBACK = "feedback.jsonl"
HELD_OUT = "heldout.jsonl"
BASE = "base.tsv"
VALIDATION = "validation.tsv"
GOLDEN = "golden.tsv"
FINGERPRINTS = "fingerprints.json"

#: One text in so many is held out.
HELD_OUT_ONE_IN = 5

_LINE_BREAKS = re.compile(r"[\t\r\n]")


class Said(Struct, frozen=True, kw_only=True):
    """One accepted correction or confirmation, as far as preparing needs it."""

    text: str
    predicted: Label
    corrected: Label
    #: The cycle that learns or learned from it.
    cycle: int
    #: When it was said, ISO 8601 in UTC.
    at: str = ""


class PreparedRows(NamedTuple):
    """The rows of a cycle, and what became of the others."""

    feedback: list[FeedbackRow]
    held_out: list[FeedbackRow]
    #: Positions in `base` that stay, ascending.
    base: list[int]
    #: Why rows were left out -> how many.
    removed: dict[str, int]


class Fingerprints(Struct, frozen=True, kw_only=True):
    """`fingerprints.json`: what a folder of data is, to the byte."""

    schema: Literal[1] = 1
    cycle: int
    champion: str
    champion_sha256: str
    #: SHA-256 of the cycle's manifest.
    manifest_sha256: str
    files: dict[str, DataFingerprint]
    #: The files that were given: `base` as it was before rows were removed.
    sources: dict[str, DataFingerprint]
    removed: dict[str, int]


def is_held_out(text: str) -> bool:
    """Return whether a text is never trained on; the same for texts that are the same once normalised."""
    return int(text_key(text)[:8], 16) % HELD_OUT_ONE_IN == 0


def prepare_rows(
    said: Iterable[Said],
    *,
    base: Sequence[str],
    validation: Sequence[str],
    golden: Sequence[str],
    samples: Iterable[Sample] = (),
    disputed: Collection[str] = (),
    cycle: int = 0,
) -> PreparedRows:
    """Return what is trained on and what is held out; a text is in one of them, once.

    Where cycles disagree on a text, the latest accepted label wins. A sample is
    left out where somebody has said something of its text: in `said`, or, not
    accepted, in `disputed` (text keys). Near-duplicates (`near_duplicates`):

    - of validation or golden texts: neither trained on nor held out;
    - of held-out texts: not trained on, base rows included. Where the text that
      would be trained on is from an earlier cycle than the held-out one, the
      champion has learned it already, and it is the held-out one that goes.
    """
    removed: Counter[str] = Counter()
    rows = _one_a_text(said, removed)
    known = {text_key(row.text) for row in rows} | set(disputed)
    rows += _sampled(samples, known, cycle, removed)
    judged_on = [*validation, *golden]
    near = near_duplicates([row.text for row in rows], judged_on)
    removed["feedback near validation or golden"] += int(near.sum())
    rows = [row for row, is_near in zip(rows, near, strict=True) if not is_near]
    feedback = [row for row in rows if not is_held_out(row.text)]
    held_out = [row for row in rows if is_held_out(row.text)]
    pairs = near_duplicate_pairs([row.text for row in feedback], [row.text for row in held_out])
    pairs_by_index = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    learned_before = {right for left, right in pairs_by_index if feedback[left].cycle < held_out[right].cycle}
    leaking = {left for left, right in pairs_by_index if right not in learned_before}
    removed["held-out near feedback of an earlier cycle"] += len(learned_before)
    removed["feedback near held-out"] += len(leaking)
    feedback = [row for place, row in enumerate(feedback) if place not in leaking]
    held_out = [row for place, row in enumerate(held_out) if place not in learned_before]
    near_judged = near_duplicates(base, judged_on)
    near_held_out = near_duplicates(base, [row.text for row in held_out])
    removed["base near validation or golden"] += int(near_judged.sum())
    removed["base near held-out"] += int((near_held_out & ~near_judged).sum())
    kept = [place for place, out in enumerate((near_judged | near_held_out).tolist()) if not out]
    return PreparedRows(feedback, held_out, kept, dict(removed))


def _one_a_text(said: Iterable[Said], removed: Counter[str]) -> list[FeedbackRow]:
    by_text: dict[str, list[Said]] = defaultdict(list)
    for each in said:
        by_text[text_key(each.text)].append(each)
    rows = []
    for key in sorted(by_text):
        of_text = sorted(by_text[key], key=lambda each: (each.cycle, each.at, each.predicted, each.text))
        label = of_text[-1].corrected
        agreeing = [each for each in of_text if each.corrected == label]
        removed["contradicted by a later correction"] += len(of_text) - len(agreeing)
        removed["said before of the same text"] += len(agreeing) - 1
        # That a model was wrong about a text weighs more than that a later one was right.
        errors = [each for each in agreeing if each.predicted != label]
        chosen = (errors or agreeing)[-1]
        rows.append(
            FeedbackRow(
                label=label,
                text=chosen.text,
                predicted=chosen.predicted,
                kind="error" if errors else "confirmation",
                cycle=of_text[0].cycle,
            )
        )
    return rows


def _sampled(
    samples: Iterable[Sample], known: Collection[str], cycle: int, removed: Counter[str]
) -> list[FeedbackRow]:
    latest: dict[str, Sample] = {}
    for sample in sorted(samples, key=lambda sample: (sample.at, sample.predicted, sample.text)):
        key = text_key(sample.text)
        reason = "sample of a corrected text" if key in known else "sample of the same text"
        removed[reason] += key in known or key in latest
        if key not in known:
            latest[key] = sample
    return [
        FeedbackRow(
            label=sample.predicted,
            text=sample.text,
            predicted=sample.predicted,
            kind="sample",
            cycle=cycle,
        )
        for _, sample in sorted(latest.items())
    ]


def read_said(
    corrections: CorrectionReader, manifest: CycleManifest
) -> tuple[list[Said], set[str], dict[str, int]]:
    """Return what was learned before this cycle and is to be learned in it, as the store has it now.

    Also the text keys of everything else that was said, and why corrections of
    the manifest were left out -> how many. What was erased since the manifest was
    written is not read.
    """
    chosen = {*manifest.errors, *manifest.confirmations, *manifest.duplicates}
    said: list[Said] = []
    other: set[str] = set()
    found: set[str] = set()
    for correction in corrections.all():
        if correction.erased_at is not None:
            continue
        if correction.id in chosen:
            found.add(correction.id)
            said.append(_said(correction, manifest.cycle))
        elif correction.cycle is not None and correction.cycle < manifest.cycle:
            said.append(_said(correction, correction.cycle))
        else:
            other.add(text_key(correction.text))
    return said, other, {"erased since the cycle was decided": len(chosen - found)}


def _said(correction: Correction, cycle: int) -> Said:
    return Said(
        text=correction.text,
        predicted=correction.predicted,
        corrected=correction.corrected,
        cycle=cycle,
        at=correction.created_at,
    )


def prepare(
    manifest: CycleManifest,
    *,
    corrections: CorrectionReader,
    registry: ModelRegistry,
    base: Path,
    validation: Path,
    golden: Path,
    out: Path,
    samples: Iterable[Sample] = (),
) -> Fingerprints:
    """Write the folder `out`; one that is complete and the same already is left alone.

    Repeat it after a crash at any line. `out` may exist, empty or unfinished.

    Raises:
        DataError: a file is missing, empty or has no tweets of a class, or `out`
            holds something else.
        InvalidModel: the champion is incomplete or altered.
        ModelNotFound: the champion is not in the registry.
        StoreUnavailable: storage does not answer, for now.
    """
    _check_out(out)
    tweets = {
        name: _read(path) for name, path in (("base", base), ("validation", validation), ("golden", golden))
    }
    said, disputed, erased = read_said(corrections, manifest)
    rows = prepare_rows(
        said,
        base=tweets["base"].texts,
        validation=tweets["validation"].texts,
        golden=tweets["golden"].texts,
        samples=samples,
        disputed=disputed,
        cycle=manifest.cycle,
    )
    if not rows.base:
        raise DataError(base, 0, "has no rows left: all of them are in validation, golden or held-out data")
    # To the byte what the container holds: one function writes both.
    raw_manifest = encode(manifest)
    files = {
        CYCLE: raw_manifest,
        FEEDBACK: encode_feedback(rows.feedback),
        HELD_OUT: encode_feedback(rows.held_out),
        BASE: _tsv(tweets["base"], rows.base),
        VALIDATION: _as_tsv(validation, tweets["validation"]),
        GOLDEN: _as_tsv(golden, tweets["golden"]),
    }
    fingerprints = Fingerprints(
        cycle=manifest.cycle,
        champion=manifest.champion,
        champion_sha256=manifest.champion_sha256,
        manifest_sha256=hashlib.sha256(raw_manifest).hexdigest(),
        files={
            FEEDBACK: _fingerprint(FEEDBACK, files, [row.label for row in rows.feedback]),
            HELD_OUT: _fingerprint(HELD_OUT, files, [row.label for row in rows.held_out]),
            BASE: _fingerprint(BASE, files, [LABELS[tweets["base"].labels[place]] for place in rows.base]),
            VALIDATION: _fingerprint(
                VALIDATION, files, [LABELS[label] for label in tweets["validation"].labels]
            ),
            GOLDEN: _fingerprint(GOLDEN, files, [LABELS[label] for label in tweets["golden"].labels]),
        },
        sources={name: read.fingerprint for name, read in tweets.items()},
        removed=rows.removed | erased,
    )
    files[FINGERPRINTS] = msgspec.json.format(msgspec.json.encode(fingerprints), indent=2) + b"\n"
    champion = _fetch(registry, manifest)
    if not _is_complete(out, files, champion):
        _write(out, files, champion)
    return fingerprints


def read_cycle(folder: Path) -> CycleManifest:
    """Return the manifest of the cycle that a folder of data is for.

    Raises:
        DataError: the folder is unfinished, or a file of it cannot be read.
    """
    return _read_json(folder / CYCLE, CycleManifest)


def read_fingerprints(folder: Path) -> Fingerprints:
    """Return what a folder of data is.

    Raises:
        DataError: the folder is unfinished, or a file of it cannot be read.
    """
    return _read_json(folder / FINGERPRINTS, Fingerprints)


def _read_json(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise DataError(path, 0, "is missing: this is no (finished) folder of 'step prepare'") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(path, 0, f"cannot be read: {error}") from error


def _read(path: Path) -> LabelledTweets:
    tweets = read_tweets(path)
    if missing := [label for label in LABELS if not tweets.fingerprint.rows[label]]:
        raise DataError(
            path, 0, f"has no {' and no '.join(missing)} tweets: examples of every class are needed"
        )
    return tweets


def _check_out(out: Path) -> None:
    names = {CHAMPION_FOLDER, CYCLE, FEEDBACK, HELD_OUT, BASE, VALIDATION, GOLDEN, FINGERPRINTS}
    if out.is_file() or (out.exists() and any(path.name not in names for path in out.iterdir())):
        raise DataError(out, 0, "exists and holds something else: name another folder")


def _tsv(tweets: LabelledTweets, places: Iterable[int]) -> bytes:
    # A tab or line break inside a text is white space like any other once normalised.
    lines = [
        f"{LABELS[tweets.labels[place]]}\t{_LINE_BREAKS.sub(' ', tweets.texts[place])}" for place in places
    ]
    return ("\n".join(["label\ttext", *lines]) + "\n").encode()


def _as_tsv(path: Path, tweets: LabelledTweets) -> bytes:
    # To the byte where it can be: the fingerprint is the one that is known.
    return path.read_bytes() if path.suffix.lower() == ".tsv" else _tsv(tweets, range(len(tweets)))


def _fingerprint(name: str, files: Mapping[str, bytes], labels: Iterable[str]) -> DataFingerprint:
    counts = Counter(labels)
    return DataFingerprint(
        name=name,
        sha256=hashlib.sha256(files[name]).hexdigest(),
        rows={label: counts[label] for label in LABELS},
    )


def _fetch(registry: ModelRegistry, manifest: CycleManifest) -> Path:
    """Return a folder with every file of the champion, verified."""
    folder = registry.fetch(manifest.champion, manifest.champion_sha256, files=())
    record, _ = read_manifest(folder)
    return registry.fetch(manifest.champion, manifest.champion_sha256, files=tuple(record.files))


def _is_complete(out: Path, files: Mapping[str, bytes], champion: Path) -> bool:
    record, _ = read_manifest(champion)
    expected = {f"{CHAMPION_FOLDER}/{name}": entry for name, entry in record.files.items()}
    expected[f"{CHAMPION_FOLDER}/{MANIFEST}"] = _entry((champion / MANIFEST).read_bytes())
    expected |= {name: _entry(data) for name, data in files.items()}
    try:
        for name, entry in expected.items():
            check_file(out / name, entry, out, name)
    except InvalidModel:
        return False
    return True


def _entry(data: bytes) -> FileEntry:
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _write(out: Path, files: Mapping[str, bytes], champion: Path) -> None:
    # Straight into the folder, and not beside it to be renamed: Azure ML hands over a
    # folder that is a mount. What makes it complete is the last file.
    out.mkdir(parents=True, exist_ok=True)
    (out / FINGERPRINTS).unlink(missing_ok=True)
    shutil.rmtree(out / CHAMPION_FOLDER, ignore_errors=True)
    record, _ = read_manifest(champion)
    for name in (*record.files, MANIFEST):
        target = out / CHAMPION_FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(champion / name, target)
    for name, data in files.items():
        (out / name).write_bytes(data)
