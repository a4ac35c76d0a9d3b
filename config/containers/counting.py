"""Handles frames: counts what is bright in them."""

from persipubsub import Message


def handle(message: Message[bytes]) -> None:
    """Print how many pixels of a frame are bright; run by ``persipubsub work``."""
    bright = sum(pixel > 127 for pixel in message.data)
    print(f"frame {message.id} of {message.headers.get('camera')}: {bright} bright pixels", flush=True)
