"""Entry of the `longbox` command: registers every subcommand and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong use (bad input, bad setting), 3 `status` found nothing running. A new command is
a file `cli/<command>.py` with `register(app)`, listed in `COMMANDS`. https://typer.tiangolo.com
"""

import errno
import os
import sys
import traceback

import typer

from resources.errors import LongboxError, UserError


def build_app() -> typer.Typer:
    """The command with all its subcommands, in the order in which help shows them."""
    from cli import (
        adopt,
        backup,
        dagster_history,
        demo,
        digest,
        doctor,
        down,
        env,
        land,
        migrate,
        partition,
        quarantine,
        restore,
        run,
        sample,
        status,
        up,
        wal,
    )

    app = typer.Typer(
        name="longbox",
        help="Longbox: the life of a table, from landed file to tested backup.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in (
        up,
        down,
        status,
        env,
        demo,
        migrate,
        sample,
        land,
        run,
        quarantine,
        digest,
        adopt,
        partition,
        doctor,
        backup,
        restore,
        wal,
        dagster_history,
    ):
        command.register(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    # where everyone may write, as under umask 000, everyone may run what is started
    os.umask(os.umask(0o077) | 0o002)
    try:
        build_app()(args=arguments, prog_name="longbox")
    except UserError as error:
        _tell(error)
        sys.exit(2)
    except LongboxError as error:
        _tell(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `longbox ... | head`: the reader has seen enough; point stdout elsewhere so that its flush at exit is quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "where its output goes"
        print(f"longbox: the disk is full ({where}); make room there, then try again", file=sys.stderr)
        # what is left would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _tell(error: LongboxError) -> None:
    if os.environ.get("LONGBOX_DEBUG", "").lower() in ("1", "true", "yes", "on"):
        traceback.print_exc()
    print(f"longbox: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
