"""The commands of docs/store.md work on a store as it is."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from controller.adapters.runner import InlineRunner
from controller.core.limits import JOB_NAME_LENGTH_MAX
from controller.core.request import batch_job_name
from tests.store.engines import STORE_ID, SqliteEngine, insert, queued, submitting, tracked, uid, update

PAGE = Path(__file__).parents[2] / "docs" / "store.md"


async def test_waiting_requests_of_a_copy_are_listed_by_the_names_of_their_jobs(tmp_path: Path) -> None:
    """Each with its job queue, as AWS Batch would know its job; what was sent, or was being sent, is not among them."""
    engine = SqliteEngine(tmp_path, InlineRunner(), "sqlite")
    store = await engine.open()
    names = ["nightly", "n" * JOB_NAME_LENGTH_MAX, "twice-c41cc3d69863", "sent", "under-way"]
    jobs = await insert(
        store,
        *(
            queued(
                number,
                job_name=name,
                batch_job_name=batch_job_name(name, store_id=STORE_ID, request_id=uid(number)),
                job_queue=f"queue-{number}",
                job_queue_ref=f"queue-{number}",
            )
            for number, name in enumerate(names)
        ),
    )
    await update(store, tracked(jobs[3]), submitting(jobs[4]))
    await engine.close()
    query = re.search(r'state\.db "(SELECT .*?)"', PAGE.read_text(), re.DOTALL)
    assert query is not None
    listed = sqlite3.connect(engine.path).execute(query[1]).fetchall()
    assert sorted(listed) == [(job.job_queue, job.batch_job_name) for job in jobs[:3]]
