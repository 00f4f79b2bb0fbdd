import pytest

pytest.register_assert_rewrite("tests.e2e.verify", "tests.e2e.drive", "tests.e2e.clients")
