"""The format `pickle`: protocol 5, with large buffers out of band."""

from _pickle import dumps, loads

from ._chunks import LARGE, Chunks
from ._errors import Uncodable

# A chunk can name 65535; this many descriptors would be too many for most readers long before.
_MOST_BUFFERS = 64


class Pickles(Chunks):
    """Any picklable object."""

    name = "pickle"

    def _code(self, values):
        try:
            return dumps(values, 5, buffer_callback=self._place)
        except Exception as error:
            raise Uncodable(values[0], str(error) or type(error).__name__, self.name) from None

    def _place(self, buffer):
        """Puts a large buffer into a segment; a true answer leaves it within the pickle."""
        raw = buffer.raw()
        if raw.nbytes < LARGE or len(self._named) >= _MOST_BUFFERS:
            return True
        segment = self._segments.put(raw)
        if segment is None:
            return True
        self._named.append(segment)
        return False

    def _decode(self, body, segments):
        return loads(body, buffers=segments)
