"""Access tokens, good ones and the hostile table."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any


def _part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(
    claims: dict[str, Any], secret: str, header: dict[str, Any] | None = None, hash_: str = "sha256"
) -> str:
    """A JWT of these claims by HMAC, whatever the header says."""
    head = f"{_part(header or {'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    return f"{head}.{_part(hmac.new(secret.encode(), head.encode(), hash_).digest())}"


def claims(key: str, identity: str, room: str, **grants: Any) -> dict[str, Any]:
    """Claims that join `room` for ten minutes."""
    now = int(time.time())
    return {
        "iss": key,
        "sub": identity,
        "nbf": now - 5,
        "exp": now + 600,
        "video": {"roomJoin": True, "room": room, **grants},
    }


def join_token(key: str, secret: str, identity: str, room: str, **grants: Any) -> str:
    """A good token."""
    return sign(claims(key, identity, room, **grants), secret)


def hostile_tokens(key: str, secret: str, room: str) -> dict[str, str]:
    """Name -> a token that must be refused with 401."""
    good = claims(key, "mallory", room)
    now = int(time.time())
    head, body, signature = sign(good, secret).split(".")
    other = _part({**good, "sub": "alice"})
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]

    def without(name: str) -> dict[str, Any]:
        return {k: v for k, v in good.items() if k != name}

    return {
        "empty": "",
        "not a token": "hello",
        "two parts": f"{head}.{body}",
        "four parts": f"{head}.{body}.{signature}.{signature}",
        "unsigned": f"{head}.{body}.",
        "alg none": f"{_part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "alg None, signed": sign(good, secret, {"alg": "None", "typ": "JWT"}),
        "alg none, signed": sign(good, secret, {"alg": "none", "typ": "JWT"}),
        "alg RS256 over the secret": sign(good, secret, {"alg": "RS256", "typ": "JWT"}),
        "alg HS512": sign(good, secret, {"alg": "HS512", "typ": "JWT"}, "sha512"),
        "no alg": sign(good, secret, {"typ": "JWT"}),
        "wrong secret": sign(good, secret + "x"),
        "empty secret": sign(good, ""),
        "secret is the key": sign(good, key),
        "unknown key": sign({**good, "iss": "nobody"}, secret),
        "no key": sign(without("iss"), secret),
        "key is no string": sign({**good, "iss": [key]}, secret),
        "expired": sign({**good, "nbf": now - 900, "exp": now - 300}, secret),
        "no expiry": sign(without("exp"), secret),
        "expiry is no number": sign({**good, "exp": "later"}, secret),
        "not yet": sign({**good, "nbf": now + 300}, secret),
        "other body": f"{head}.{other}.{signature}",
        "bit flipped": f"{head}.{body}.{flipped}",
        "bad base64": f"{head}.{body}.!!!!",
        "body is no object": sign([good], secret),  # type: ignore[arg-type]
        "body is no JSON": _raw(head, b"{", secret),
        "no join grant": sign({**good, "video": {"room": room}}, secret),
        "join grant false": sign({**good, "video": {"room": room, "roomJoin": False}}, secret),
        "no video grant": sign(without("video"), secret),
    }


def _raw(head: str, body: bytes, secret: str) -> str:
    signed = f"{head}.{_part(body)}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_part(digest)}"
