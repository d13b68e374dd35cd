"""The command `instructloop` with a checkpoint wherever there can be one; worker processes import this module too.

A tiny loop is over before the real command would write its first checkpoint, after a minute.
"""

from instructloop.cli import main

if __name__ == "__mp_main__":  # a worker; the main process trains nothing
    from instructloop.train.loop import _Saver

    _Saver.is_due = lambda self: True

if __name__ == "__main__":
    main()
