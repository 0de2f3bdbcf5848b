"""The command: ``main`` is what ``trivium`` runs.

Exit codes: 0 done · 1 the run failed · 2 bad usage or input · 3 a process died and the run could not go on · 130, 143,
129 after Ctrl-C, SIGTERM, SIGHUP.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

DEBUG = "--debug"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit code.

    Every TriviumError becomes one line on stderr; with ``--debug`` its traceback too.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = DEBUG in args
    _open_standard_streams()
    code = 1
    try:
        code = _command([arg for arg in args if arg != DEBUG], debug)
    finally:
        written = _settle_streams()
    return code or (0 if written else 1)


def _command(args: list[str], debug: bool) -> int:
    try:
        from trivium.cli.app import app
        from trivium.cli.signals import Interrupted
        from trivium.cli.words import in_options
        from trivium.errors import TriviumError, UsageError
    except KeyboardInterrupt:
        return 130

    try:
        code = app(args=args, prog_name="trivium", standalone_mode=False)
    except UsageError as error:
        return _say(in_options(str(error)), error.exit_code, debug, error)
    except TriviumError as error:
        return _say(str(error), error.exit_code, debug, error)
    except Interrupted as interrupted:
        return _say(f"ended by {interrupted}", interrupted.exit_code, debug=False)
    except KeyboardInterrupt:
        return _say("ended by SIGINT", 130, debug=False)
    except MemoryError as error:
        return _say("out of memory; fewer workers or a smaller batch need less", 1, debug, error)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except Exception as error:
        shown, code = _usage(error)
        if shown is None:
            raise
        return _say(shown, code, debug, error)
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> tuple[str | None, int]:
    """The message of an error of the option parser (it has no public base class), and its exit code."""
    told = getattr(error, "format_message", None)
    if told is None:
        return None, 1
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "trivium")
    message = told()
    return f"{message}\nTry `{path} --help`." if message else "", getattr(error, "exit_code", 2)


def _say(message: str, code: int, debug: bool, error: BaseException | None = None) -> int:
    from trivium.observe.progress import SafeStream

    stream = SafeStream(sys.stderr)
    if debug and error is not None:
        import traceback

        stream.write("".join(traceback.format_exception(error)))
        remote = getattr(error, "traceback", "")
        stream.write(f"{remote}\n" if remote else "")
    stream.write(f"trivium: {message}\n" if message else "")
    stream.flush()
    return code


def _open_standard_streams() -> None:
    """Streams that the caller closed become /dev/null, so that no file or socket of ours ever gets their numbers."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # for the processes that we start too
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _settle_streams() -> bool:
    """Flush; whether the result could be written.

    A stream whose reader is gone is pointed at /dev/null, or the interpreter would complain as it exits.
    """
    written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            written = written and (stream is sys.stderr or isinstance(error, BrokenPipeError | ValueError))
            try:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
            except (OSError, ValueError):
                continue
    return written
