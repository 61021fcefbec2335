"""The painter: pictures from prompts with Pillow alone, for the `local` provider."""

from server.providers.painter.picture import Picture, paint
from server.providers.painter.reference import UnreadableReference

__all__ = ["Picture", "UnreadableReference", "paint"]
