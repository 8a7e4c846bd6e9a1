"""``models``: versions in the store, and which of them serves."""

from __future__ import annotations

import argparse
import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sentiment.errors import ModelConflict

if TYPE_CHECKING:
    from sentiment.registry import ModelRegistry
    from sentiment.services import Services


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "models",
        help="list, publish, promote and roll back model versions",
        description="Model versions in Blob Storage (the account in AzureWebJobsStorage).",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="all versions, newest first; * marks the champion")
    listing.set_defaults(run=_list)

    history = actions.add_parser("history", help="who made which version the champion, when and why")
    history.set_defaults(run=_history)

    publish = actions.add_parser("publish", help="upload a model folder as a version")
    publish.add_argument("folder", type=Path, metavar="FOLDER")
    publish.set_defaults(run=_publish)

    promote = actions.add_parser("promote", help="make a published version the champion")
    promote.add_argument("version", metavar="VERSION")
    promote.add_argument("--cycle", type=_positive, metavar="N", help="the retraining cycle it comes from")
    promote.add_argument(
        "--if-champion",
        metavar="OTHER",
        help="only if OTHER serves, or VERSION already does: what a gate has compared it with",
    )
    promote.set_defaults(run=_promote)

    rollback = actions.add_parser("rollback", help="go back to the champion before, or to --to")
    rollback.add_argument("--to", metavar="VERSION")
    rollback.add_argument(
        "--refuse",
        action="store_true",
        help="for good: the version is never promoted again, and what its cycle learned from waits again",
    )
    rollback.set_defaults(run=_rollback)

    for action, reason in ((promote, "promoted by hand"), (rollback, "rolled back by hand")):
        action.add_argument("--reason", default=reason, help=f"kept with the pointer (default: {reason})")
        action.add_argument(
            "--by", default=None, metavar="NAME", help="(default: the name you are logged in with)"
        )


def _list(options: argparse.Namespace) -> int:
    versions = _registry().versions()
    if not versions:
        print("no versions yet: publish one with `python -m sentiment models publish FOLDER`")
    for version in versions:
        recall = "-" if version.macro_recall is None else f"{version.macro_recall:.4f}"
        mark = "*" if version.champion else " "
        print(
            f"{mark} {version.version:<32}  {version.created_at}  "
            f"macro-recall {recall}  from {version.parent or '-'}"
        )
    return 0


def _history(options: argparse.Namespace) -> int:
    for entry in _registry().history():
        print(f"{entry.number:>4}  {entry.promoted_at}  {entry.version}  by {entry.by}: {entry.reason}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    version = _registry().publish(options.folder)
    print(f"published {version}; it serves once promoted: python -m sentiment models promote {version}")
    return 0


def _promote(options: argparse.Namespace) -> int:
    from sentiment.retrain.refusals import check_allowed, reason_of

    services, version, other = _services(), options.version, options.if_champion
    check_allowed(services.retrain_blobs, version)
    expected = None
    if other is not None:
        found = services.registry.champion()
        if found.champion.version not in (version, other):
            raise ModelConflict(
                version,
                f"{found.champion.version} serves, and {version} was compared with {other}: not promoted",
            )
        expected = found.etag
    reason = options.reason if options.cycle is None else reason_of(options.cycle, options.reason)
    champion = services.registry.promote(version, by=options.by or _user(), reason=reason, expected=expected)
    print(f"{champion.version} is the champion (before: {champion.previous or 'none'})")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from sentiment.retrain.refusals import check_allowed, refused_versions, undo

    services, by = _services(), options.by or _user()
    if options.refuse:
        undone = undo(
            services,
            services.registry.champion(),
            to=options.to,
            by=by,
            reason=options.reason,
            now=datetime.now(UTC),
        )
        print(f"rolled back: {undone.champion} is the champion; {undone.version} is never promoted again")
        print(undone.waits or f"{undone.given_back} corrections that it learned from wait again")
        return 0
    if options.to is not None:
        check_allowed(services.retrain_blobs, options.to)
    champion = services.registry.rollback(
        to=options.to, avoid=refused_versions(services.retrain_blobs), by=by, reason=options.reason
    )
    print(f"rolled back: {champion.version} is the champion (before: {champion.previous or 'none'})")
    return 0


def _registry() -> ModelRegistry:
    return _services().registry


def _services() -> Services:
    # Training needs this command line, and no storage packages.
    from sentiment.services import get_services

    return get_services()


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError
    return number


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a user id that has no name.
        return "command line"
