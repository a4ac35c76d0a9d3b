"""Queues of a deployment file that are not in a directory: the URL of the engine, made of what the file says."""

import pathlib
from urllib.parse import quote, urlsplit

from persipubsub.configfile.schema import QueueFile
from persipubsub.errors import ConfigError


def engine_path(document: QueueFile, name: str, folder: pathlib.Path, where: str) -> pathlib.Path | None:
    """Return the URL of a queue on an engine; ``None`` for one in a directory.

    :param folder: of the deployment file, from which files are found
    :param where: the path of the field, for errors
    :raise ConfigError: what belongs to an engine stands without one, or the other way round
    """
    tls = document.tls
    files = {
        "credentials": document.credentials,
        "tls_ca": None if tls is None else tls.ca,
        "tls_cert": None if tls is None else tls.cert,
        "tls_key": None if tls is None else tls.key,
    }
    if document.engine is None:
        for field in ("replicas", "credentials", "tls", "monitor"):
            if getattr(document, field):
                raise ConfigError(f'{where}.{field}: It belongs to an engine; add "engine": "nats://host:4222".')
        return None
    if document.path is not None:
        raise ConfigError(f"{where}.path: A queue on an engine has no directory; leave the path or the engine out.")
    given: dict[str, object] = {key: folder / value for key, value in files.items() if value is not None}
    if document.replicas is not None:
        given["replicas"] = document.replicas
    if document.monitor:
        given["monitor"] = ",".join(document.monitor)
    base, _, query = document.engine.partition("?")
    if urlsplit(base).path in ("", "/"):
        base = f"{base.rstrip('/')}/{quote(name, safe='')}"
    parameters = [query] if query else []
    # Without slashes, which a path would take two for one.
    parameters += [f"{key}={quote(str(value), safe=':,')}" for key, value in given.items()]
    return pathlib.Path("?".join([base, "&".join(parameters)]) if parameters else base)
