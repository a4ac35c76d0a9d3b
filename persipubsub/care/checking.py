"""Checking a queue in a process of its own: LMDB may end the process that reads a damaged page."""

import os
import pathlib
import signal
import subprocess
import sys

import msgspec

from persipubsub.engine.figures import Finding
from persipubsub.engine.local import verify_local
from persipubsub.environment import Environment
from persipubsub.errors import PersipubsubError, QueueDamagedError
from persipubsub.paths import absolute

_PROGRAM = "import sys; from persipubsub.care import checking; checking.answer(sys.argv[1])"


class _Answer(msgspec.Struct):
    """What the child tells."""

    findings: list[Finding] = []
    damage: str | None = None


def check_apart(path: str | os.PathLike[str]) -> list[Finding]:
    """Verify everything that is stored, as ``Control.check`` does; what kills the checking process is a finding, too.

    :param path: of the queue
    :return: what is wrong; empty if all is well
    :raise OpenError: there is no queue, or it cannot be used
    """
    location = absolute(path)
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(location)],
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for this process, which then ends the child
    ) as child:
        try:
            output, _ = child.communicate()
        except BaseException:
            child.kill()
            raise
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return [Finding("pages", f"they are damaged: the process that read them was ended by {name}")]
    try:
        answer = msgspec.json.decode(output, type=_Answer)
    except msgspec.MsgspecError:
        # It did not come as far as to say what is wrong; here the same error is raised again.
        with Environment(location) as environment:
            environment.open_control().close()
        return [Finding("queue", f"the process that checked it ended with status {child.returncode}")]
    if answer.damage is not None:
        return [Finding("files", answer.damage)]
    return answer.findings


def answer(path: str) -> None:
    """Check a queue, and write what was found to the standard output; nothing, if it cannot be opened."""
    found = _Answer()
    try:
        # Pages first, without trusting any: LMDB would go where a damaged one leads. In use, they cannot be judged.
        found.findings = [Finding("pages", finding) for finding in verify_local(pathlib.Path(path))]
        if not found.findings:
            with Environment(path) as environment, environment.open_control() as control:
                found.findings = control.check()
    except QueueDamagedError as error:
        found.damage = str(error)
    except PersipubsubError:
        return
    sys.stdout.buffer.write(msgspec.json.encode(found))
    sys.stdout.flush()
