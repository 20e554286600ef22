"""Reading Prometheus's text format."""

from __future__ import annotations

import re

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{[^}]*\})?\s+(\S+)")


class Metrics:
    """Samples of one page."""

    def __init__(self, samples: dict[str, list[tuple[str, float]]]) -> None:
        self._samples = samples

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples with these labels; 0 for a metric that is not there."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = self._samples.get(name, [])
        return sum(value for text, value in samples if all(it in text for it in wanted))

    def names(self) -> list[str]:
        """Every metric on the page."""
        return sorted(self._samples)


def parse_metrics(text: str) -> Metrics:
    """Parses a page; comments and odd lines are skipped."""
    samples: dict[str, list[tuple[str, float]]] = {}
    for line in text.splitlines():
        if found := _LINE.match(line):
            samples.setdefault(found[1], []).append((found[2] or "", float(found[3])))
    return Metrics(samples)
