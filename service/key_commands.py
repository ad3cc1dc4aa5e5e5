"""The command line of those who hold a key of their own: no service, no settings and no network are needed."""

from pathlib import Path

from cyclopts import App

decision_app = App(name="decision", help="What an arbiter with a key of its own signs; works without network.")


@decision_app.command(name="sign")
def decision_sign(*, key_file: Path, statement: Path | None = None) -> int:
    """Says what a decision's statement says, and prints its signature, alone on standard output.

    Parameters
    ----------
    key_file
        The seed of your seat's identity key: 64 hex digits in a file that only you can read.
    statement
        The statement, as the page or the API shows it; standard input without it.
    """
    from service.commands.decision import sign as run

    return run(key_file, statement=statement)


@decision_app.command(name="key")
def decision_key(*, key_file: Path) -> int:
    """Prints the public half of a seat's identity key; where the file is not there yet, a new key is made.

    Parameters
    ----------
    key_file
        The file of the key.
    """
    from service.commands.decision import show_key as run

    return run(key_file)
