"""Procrastinate: plain jobs. The commands are those of driver.mjs."""

import asyncio
import json
import os
import sys
import time

import procrastinate

WIDTH = 32
CHUNK = 1000  # jobs of one insert

app = procrastinate.App(connector=procrastinate.PsycopgConnector(
    conninfo=f"host={os.environ['PGHOST']} user={os.environ['PGUSER']} dbname={os.environ['PGDATABASE']}", min_size=WIDTH // 2, max_size=WIDTH))


@app.task(name="noop", queue="bulk")
async def noop():
    pass


@app.task(name="chain", queue="chain")
async def chain(left, last):
    if left > 1:
        await chain.defer_async(left=left - 1, last=last)
    else:
        last_started.append(True)


last_started = []


async def unfinished(queue):
    row = await app.connector.execute_query_one_async("SELECT count(*) AS n FROM procrastinate_jobs WHERE queue_name = %(queue)s AND status IN ('todo', 'doing')", queue=queue)
    return row["n"]


async def bulk(n):
    begin = time.monotonic()
    for first in range(0, n, CHUNK):
        await noop.batch_defer_async(*({} for _ in range(min(CHUNK, n - first))))
    while await unfinished("bulk"):
        await asyncio.sleep(0.02)
    return {"seconds": time.monotonic() - begin, "steps": n}


async def serial(n):
    ms = []
    for _ in range(n):
        begin = time.monotonic()
        last_started.clear()
        await chain.defer_async(left=4, last=True)
        while not last_started or await unfinished("chain"):
            await asyncio.sleep(0)
        ms.append((time.monotonic() - begin) * 1000)
    return {"ms": ms}


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        # LISTEN tells of new jobs; the poll behind it is only for lost notifications.
        worker = asyncio.create_task(app.run_worker_async(concurrency=WIDTH, wait=True, install_signal_handlers=False, listen_notify=True, fetch_job_polling_interval=0.1, delete_jobs="never"))
        print('{"ready": true}', flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await {"bulk": bulk, "serial": serial}[name](int(n))), flush=True)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


asyncio.run(main())
