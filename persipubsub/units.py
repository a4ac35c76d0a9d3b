"""Numbers for humans."""


def size(number: int) -> str:
    """Return bytes for humans.

    >>> size(0), size(1536), size(30 * 1024**3)
    ('0 B', '1.5 KiB', '30.0 GiB')
    """
    if number < 1024:
        return f"{number} B"
    value, units = number / 1024, ["TiB", "GiB", "MiB", "KiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop()
    return f"{value:.1f} {units[-1]}"


def duration(seconds: float | None) -> str:
    """Return a time span for humans.

    >>> duration(None), duration(0.25), duration(90), duration(7200), duration(200000)
    ('-', '0.2 s', '1.5 min', '2.0 h', '2.3 d')
    """
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def count(number: float | None) -> str:
    """Return a number in at most five characters.

    >>> count(None), count(0), count(9999), count(12345), count(1234567), count(5e9)
    ('-', '0', '9999', '12.3k', '1.2M', '5.0G')
    """
    if number is None:
        return "-"
    if number < 10_000:
        return str(round(number))
    value = float(number)
    for unit in "kMGTP":
        value /= 1000
        if value < 999.95:
            return f"{value:.1f}{unit}" if value < 99.95 else f"{value:.0f}{unit}"
    return f"{value:.0e}"


def rate(per_second: float | None) -> str:
    """Return a rate in at most five characters.

    >>> rate(None), rate(0.0), rate(0.25), rate(12.3), rate(25000)
    ('-', '0', '0.25', '12.3', '25.0k')
    """
    if per_second is None or per_second == 0 or per_second >= 100:
        return count(per_second)
    return f"{per_second:.2f}" if per_second < 1 else f"{per_second:.1f}"


_BLOCKS = "▁▂▃▄▅▆▇█"


def spark(values: list[int], width: int) -> str:
    """Return the last ``width`` values as a line of blocks, the highest of them at full height.

    >>> spark([0, 1, 4, 8], 6)
    '  ▁▂▅█'
    >>> spark([0, 0], 2)
    '▁▁'
    """
    shown = values[-width:]
    top = max(shown, default=0)
    blocks = (_BLOCKS[0 if not top else -(-value * (len(_BLOCKS) - 1) // top)] for value in shown)
    return "".join(blocks).rjust(width)
