"""A worker's life: find the function, say so, wait for GO, work, end."""

import os
import sys

from . import _errors
from ._control import BROKEN, ERROR, READY, Control, OutputClosed

_READY = b'{"protocol":1,"language":"python","segments":%s}'


def main(here):
    """Runs the worker that this process was started as, and does not return.

    `here` is the SDK's folder, from where the interpreter was started.
    """
    if sys.argv[1:2] == ["--server"]:
        from . import _server

        kept = _server.main(here)  # noqa: F841
    work(here)


def work(here):
    """Lives the life of a worker, and does not return: the process ends by SystemExit or by a signal."""
    if "MPFLOW_TASK" not in os.environ or "MPFLOW_CONTROL" not in os.environ:
        sys.exit("this starts a Python worker of mpflow, and mpflow starts it: see `mpflow run --help`")
    try:
        code = _live(here)
    except KeyboardInterrupt:
        _end_by_signal(2)
    except OutputClosed:
        _end_by_signal(13)
    # From here on an interrupt would only print a traceback, of the interpreter's own end.
    from _signal import SIG_DFL, SIGINT, signal

    signal(SIGINT, SIG_DFL)
    sys.exit(code)


def _live(here):
    task = read_task()
    control = Control(int(os.environ.pop("MPFLOW_CONTROL")))
    keep_descriptors(task, control)
    arrange(here, task)
    arrange_log()
    from . import _target
    from ._files import Files

    files = Files(control, task["folder"])
    try:
        function, is_built = _target.prepare(task)
    except _errors.Broken as broken:
        files.tell_loaded()
        files.tell_blamed(broken.traceback)
        control.send_json(BROKEN, {"error": broken.error, "traceback": broken.traceback, "nearest": broken.nearest})
        return 1
    close = getattr(function, "close", None) if is_built else None
    if not callable(close):
        close = _nothing
    try:
        from . import _segments

        files.tell_loaded()
        files.follow()
        control.send(READY, _READY % (b"true" if _segments.can_be_received() else b"false"))
        # What the work itself needs is imported while the engine makes up its mind.
        worker = _worker(task, control, _segments.Segments(control))
        control.wait_for_go()
        worker.run(function, is_built)
    except (KeyboardInterrupt, SystemExit, OutputClosed):
        # It may hold what nothing else gives back, also when it is interrupted.
        _close_anyway(close)
        raise
    except BaseException as error:
        _tell(task, control, error)
        _close_anyway(close)
        return 1
    try:
        close()
        worker.finish()
    except (KeyboardInterrupt, SystemExit, OutputClosed):
        raise
    except BaseException as error:
        _tell(task, control, error)
        return 1
    # The interpreter takes its time to end: the readers need not wait for it.
    worker.close()
    return 0


def read_whole(descriptor):
    """A file from its beginning. The descriptor's offset is left where it is, for others that read the same."""
    data = b""
    while True:
        part = os.pread(descriptor, 1 << 16, len(data))
        if not part:
            return data
        data += part


def read_task():
    """The task, of which all workers of a stage have the same descriptor: its offset is nobody's."""
    descriptor = int(os.environ.pop("MPFLOW_TASK"))
    data = read_whole(descriptor)
    os.close(descriptor)
    from ._documents import parse

    return parse(data.decode("utf-8", "surrogatepass"))


def descriptors_of(task):
    """All descriptors of a task: those of its ports, its answers and its connections."""
    found = [port["fd"] for port in task["inputs"] + task["outputs"] if port["fd"] is not None]
    if task.get("answers") is not None:
        found.append(task["answers"])
    return found + list((task.get("connections") or {}).values())


def keep_descriptors(task, control):
    """Lets no process that this one starts hold its pipes open."""
    all_of_them = [control.descriptor, *descriptors_of(task)]
    for descriptor in all_of_them:
        os.set_inheritable(descriptor, False)

    def in_child():
        import mpflow

        mpflow._work = mpflow._Outside("this process was forked by a worker and is none itself")
        for descriptor in all_of_them:
            try:
                os.close(descriptor)
            except OSError:
                pass

    # `multiprocessing` forks without replacing the program: no flag closes anything there.
    os.register_at_fork(after_in_child=in_child)


def arrange(here, task):
    """Makes the process look as if Python had been started for the pipeline: import path, `__main__`, arguments."""
    import mpflow

    mpflow._task = task
    import_path(here, task)
    replace_main([task["target"]])
    from . import _process

    _process.introduce(bool(task.get("daemon")))


def import_path(here, task):
    """The pipeline's folder first, the SDK last: for the children of `multiprocessing`, which import it anew."""
    folder = task["folder"]
    path = [entry for entry in sys.path if entry not in (here, folder)]
    further = [entry for entry in task.get("path") or () if entry not in path]
    sys.path[:] = [folder, *further, *path, here]


def replace_main(arguments):
    """Pickles and `multiprocessing` must not take the SDK's bootstrap for the user's program."""
    sys.argv = arguments
    main = type(sys)("__main__")
    main.__builtins__ = sys.modules["builtins"]
    sys.modules["__main__"] = main


def arrange_log():
    """What is printed is log text: whole lines at once, and nothing that cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # Under PYTHONUNBUFFERED each `print` would be two writes, and another process's line could come in between.
            stream.reconfigure(line_buffering=True, write_through=False, errors="backslashreplace")


def _worker(task, control, segments):
    import mpflow

    if task["source"] or task["mode"] == "stream":
        from ._stream import Stream as Kind
    else:
        from ._map import Map as Kind
    mpflow._work = Kind(task, control, segments)
    return mpflow._work


def _tell(task, control, error):
    """Tells the engine that the function has failed, or, where only records can fail, the log."""
    if task["source"] or task["mode"] == "stream":
        control.send_json(ERROR, _errors.document(error))
    else:
        # Not the user's, whose exceptions fail records: all of it is told.
        from traceback import print_exception

        print_exception(type(error), error, error.__traceback__)


def _close_anyway(close):
    try:
        close()
    except KeyboardInterrupt:
        # Pressed again: it ends by that anyway.
        pass
    except BaseException as error:
        sys.stderr.write(_errors.traceback(error))


def _nothing():
    pass


def _end_by_signal(number):
    """Ends as a process that this signal has killed, after what it printed is written."""
    from _signal import SIG_DFL, pthread_sigmask, signal, SIG_UNBLOCK

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    signal(number, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
    os._exit(128 + number)
