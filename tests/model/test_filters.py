"""Topics reach those whose filter they match, and nobody else."""

import pathlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persipubsub import IdentifierError
from persipubsub.names import check_filter, check_topic, matches
from tests.crash import failpoints
from tests.model import filters

_TOKENS = st.sampled_from((*filters.TOKENS, "*", ">", *filters.WRONG))
_NAMES = st.lists(_TOKENS, min_size=1, max_size=5).map(".".join)


def _accepts(check: object, text: str) -> bool:
    assert callable(check)
    try:
        return bool(check(text) == text)
    except IdentifierError:
        return False


@settings(max_examples=300)
@given(topic_filter=_NAMES, topic=_NAMES)
def test_rules(topic_filter: str, topic: str) -> None:
    assert _accepts(check_filter, topic_filter) == filters.is_name(topic_filter, wild=True)
    assert _accepts(check_topic, topic) == filters.is_name(topic, wild=False)
    if filters.is_name(topic_filter, wild=True) and filters.is_name(topic, wild=False):
        assert matches(topic_filter, topic) == filters.fits(topic_filter, topic)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_deliveries(tmp_path: pathlib.Path, seed: int) -> None:
    decided, findings = filters.judge(tmp_path / "queue", random.Random(seed))
    assert findings == []
    assert decided > 500


def test_a_wrong_match_is_found(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = failpoints.find("engine.local.take:matches")
    monkeypatch.setattr(owner, name, lambda topic_filter, topic: matches(topic_filter, topic + ".x"))
    _, findings = filters.judge(tmp_path / "queue", random.Random(1))
    assert "came, or did not" in "\n".join(findings)
