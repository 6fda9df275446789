"""Quick answers first: whatever is selected, tests marked slow run after all others, otherwise in the order found."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
