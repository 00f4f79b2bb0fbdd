"""Commands on the registry: registered by name, and imported when one of them is called."""

from __future__ import annotations

from cyclopts import App, Group

MEMBERS = Group("Members", sort_key=4)
_COMMANDS = {
    "members": ("members:app", "Who is registered, and in which state; add, change, retire."),
    "approve": (
        "promotion:approve",
        "Approve a recommended candidate: it queues, and goes live in its turn.",
    ),
    "promote": ("promotion:promote", "Approve a candidate that is not recommended: without evidence."),
    "decline": ("promotion:decline", "Stop a candidate on its way to live: it stays in shadow."),
    "rollback": ("promotion:rollback", "Take a deployed member out at once; whom it replaced comes back."),
    "history": ("history:history", "Show every change of the suite: who, when, what and why."),
}


def add_commands(app: App) -> None:
    """Make them commands of `app`."""
    for name, (where, text) in _COMMANDS.items():
        app.command(f"evaluator.cli.{where}", name=name, help=text, group=MEMBERS)
