"""Let the machine say what differs, as a test would."""

import pytest

pytest.register_assert_rewrite("tests.model.twins")
