"""Operators, accounts and users of NATS: keys, and the tokens by which one vouches for the other."""

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]

_UNLIMITED = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    "wildcards": True,
}
_STORAGE = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


class Party:
    """An operator, an account or a user."""

    def __init__(self, kind: str) -> None:
        """Draw a key."""
        self.kind = kind
        self.seed = nkeys.encode_seed(secrets.token_bytes(32), getattr(nkeys, f"PREFIX_BYTE_{kind.upper()}"))
        self._keys = nkeys.from_seed(bytearray(self.seed))
        self.public = str(self._keys.public_key.decode())

    def vouch(self, for_whom: "Party", ends: float | None = None, **claims: Any) -> str:
        """Return a signed token for another party.

        :param ends: seconds from now until it is not valid any more
        """
        now = int(time.time())
        content = {
            "jti": secrets.token_hex(16),
            "iat": now,
            "iss": self.public,
            "sub": for_whom.public,
            "name": for_whom.kind,
            "nats": {"type": for_whom.kind, "version": 2, **claims},
        }
        if ends is not None:
            content["exp"] = now + int(ends)
        text = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(content)}"
        return f"{text}.{_base64(self._keys.sign(text.encode()))}"


class Operator:
    """An operator with an account that has JetStream, one that has not, and the servers' own."""

    def __init__(self) -> None:
        """Draw all keys."""
        self._party = Party("operator")
        self._system = Party("account")
        self.account = Party("account")
        self.poor_account = Party("account")

    @property
    def config(self) -> str:
        """Return what a server has to know."""
        tokens = {
            self._system: self._party.vouch(self._system, limits=_UNLIMITED),
            self.account: self._party.vouch(self.account, limits={**_UNLIMITED, **_STORAGE}),
            self.poor_account: self._party.vouch(self.poor_account, limits=_UNLIMITED),
        }
        preloaded = "\n".join(f"{party.public}: {token}" for party, token in tokens.items())
        return (
            f"operator: {self._party.vouch(self._party)}\nsystem_account: {self._system.public}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preloaded}\n}}"
        )


def write_credentials(path: Path, account: Party, user: Party | None = None, **claims: Any) -> Path:
    """Write the credentials file of a user for whom an account vouches."""
    person = Party("user")
    token = account.vouch(person, **{"subs": -1, "data": -1, "payload": -1, **claims})
    seed = (user or person).seed.decode()
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    return path


def _encoded(content: dict[str, Any]) -> str:
    return _base64(json.dumps(content).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
