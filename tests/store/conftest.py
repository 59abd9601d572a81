"""Stores for the conformance suite, one per engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.engines import ENGINES, AuditedStore, SqliteEngine


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    engine = ENGINES[request.param](tmp_path)
    yield engine
    await engine.close()


@pytest.fixture
async def store(engine: SqliteEngine) -> AsyncIterator[AuditedStore]:
    store = await engine.open()
    yield store
    assert await store.audit() == []
