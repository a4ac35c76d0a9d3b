"""The files by which a client shows who it is, and knows the server."""

import ssl

from persipubsub.engine.jetstream.location import Location
from persipubsub.errors import OpenError


def check_credentials(where: Location) -> None:
    """Look whether the credentials file is one, before anybody is asked.

    :raise OpenError: it cannot be read, or is something else
    """
    if where.credentials is None:
        return
    try:
        with open(where.credentials, "rb") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise OpenError(f"The credentials file of {where.shown} cannot be read: {error}.") from error
    if not _is_good(_after(lines, b"BEGIN NATS USER JWT"), _after(lines, b"BEGIN USER NKEY SEED")):
        raise OpenError(
            f"The credentials file of {where.shown}, {where.credentials}, holds no token (NATS USER JWT) with its key "
            "(USER NKEY SEED); make one anew with `nsc generate creds`."
        )


def _after(lines: list[bytes], heading: bytes) -> bytes:
    return next((lines[number + 1] for number, line in enumerate(lines[:-1]) if heading in line), b"").strip()


def _is_good(token: bytes, seed: bytes) -> bool:
    try:
        import nkeys  # type: ignore[import-untyped]  # it has no type hints
    except ImportError as error:
        raise OpenError("Credentials need another package: pip install 'persipubsub[nats]'") from error
    try:
        nkeys.from_seed(bytearray(seed))
    except (nkeys.NkeysError, ValueError):
        return False
    return token.count(b".") == 2


def tls_context(where: Location) -> ssl.SSLContext | None:
    """Return how to speak TLS; ``None`` for not at all.

    :raise OpenError: a file cannot be used
    """
    if not where.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=where.tls_ca)
        if where.tls_cert is not None:
            context.load_cert_chain(where.tls_cert, where.tls_key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (where.tls_ca, where.tls_cert, where.tls_key)))
        raise OpenError(f"The TLS files of {where.shown} cannot be used ({files}): {error}.") from error
    return context
