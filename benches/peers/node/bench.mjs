// Runs one command against one peer and prints its figures.
//
// A peer is an object of four functions:
//   migrate(url)                  creates the schema in an empty database
//   connect(url, settings)        gives a producer: submit(payloads), submitOne(payload), close()
//   work(url, onStart, settings)  starts a worker and gives it: settled(count), stop()
//   counts(pool)                  counts tasks: { waiting, finished }, `finished` null where they are deleted
// The setting `connections` is how many calls are made at once;
// `notified` asks for the set-up with the lowest latency.

import { setTimeout as pause } from "node:timers/promises";
import { performance } from "node:perf_hooks";
import pg from "pg";
import { makePayload, readOptions } from "./options.mjs";

const WARM_UP_TASKS = 20_000;
const WARM_UP_SAMPLES = 100;
// Lets the last task's settlement end, so that each sample meets an idle system.
const REST_MS = 5;

/** Runs the command that the process was started with. */
export async function main(peer) {
  try {
    const options = readOptions(process.argv.slice(2));
    const pool = new pg.Pool({ connectionString: options.url, max: 2 });
    const figures = await COMMANDS[options.command]({ peer, pool, ...options });
    await pool.end();
    console.log(JSON.stringify(figures));
    process.exit(0);
  } catch (error) {
    console.error(`${error.stack ?? error}`);
    process.exit(1);
  }
}

const COMMANDS = { prepare, enqueue, drain, life, unary, latency };

async function prepare(bench) {
  await bench.peer.migrate(bench.url);
  await refreshStatistics(bench.pool);
  return { prepared: true };
}

async function enqueue(bench) {
  const producer = await bench.peer.connect(bench.url, { connections: bench.producers });
  const seconds = await timed(() => submitBatches(bench, producer));
  await producer.close();
  return rate(bench.tasks, seconds);
}

async function drain(bench) {
  const { waiting } = await bench.peer.counts(bench.pool);
  if (waiting !== bench.tasks) {
    throw new Error(`expected ${bench.tasks} waiting tasks, found ${waiting}`);
  }
  await refreshStatistics(bench.pool);
  return rate(bench.tasks, await drainBacklog(bench, bench.tasks));
}

async function life(bench) {
  await warmUp(bench);
  const { finished } = await bench.peer.counts(bench.pool);
  const producer = await bench.peer.connect(bench.url, { connections: bench.producers });
  const worker = await bench.peer.work(bench.url, () => {});
  const seconds = await timed(async () => {
    await Promise.all([submitBatches(bench, producer), worker.settled(bench.tasks)]);
  });
  await worker.stop();
  await producer.close();
  await requireSettled(bench, finished, bench.tasks);
  return rate(bench.tasks, seconds);
}

async function unary(bench) {
  const producer = await bench.peer.connect(bench.url, { connections: bench.callers });
  const payload = makePayload(bench.payload);
  let left = bench.tasks;
  const seconds = await timed(() =>
    atOnce(bench.callers, async () => {
      while (left > 0) {
        left -= 1;
        await producer.submitOne(payload);
      }
    }),
  );
  await producer.close();
  return rate(bench.tasks, seconds);
}

async function latency(bench) {
  await warmUp(bench);
  const producer = await bench.peer.connect(bench.url, { connections: 1, notified: true });
  let started = () => {};
  const worker = await bench.peer.work(bench.url, () => started(performance.now()), { notified: true });
  const payload = makePayload(bench.payload);
  const samples = [];
  for (let sample = -WARM_UP_SAMPLES; sample < bench.samples; sample += 1) {
    const start = new Promise((resolve) => (started = resolve));
    const begin = performance.now();
    await producer.submitOne(payload);
    const micros = ((await start) - begin) * 1_000;
    if (sample >= 0) {
      samples.push(micros);
    }
    await pause(REST_MS);
  }
  await worker.stop();
  await producer.close();
  return percentiles(samples);
}

/** Works off what waits, checks that nothing was lost, and gives the seconds it took. */
async function drainBacklog(bench, tasks) {
  const { finished } = await bench.peer.counts(bench.pool);
  const worker = await bench.peer.work(bench.url, () => {});
  const seconds = await timed(() => worker.settled(tasks));
  await worker.stop();
  await requireSettled(bench, finished, tasks);
  return seconds;
}

async function submitBatches(bench, producer) {
  const payload = makePayload(bench.payload);
  let left = bench.tasks;
  await atOnce(bench.producers, async () => {
    while (left > 0) {
      const size = Math.min(bench.batch, left);
      left -= size;
      await producer.submit(Array(size).fill(payload));
    }
  });
}

/**
 * Leaves no task waiting and statistics of a table in use.
 * Plans made for an empty table would be kept, and would be far too slow for a full one.
 */
async function warmUp(bench) {
  await enqueue({ ...bench, tasks: WARM_UP_TASKS });
  await refreshStatistics(bench.pool);
  const { waiting } = await bench.peer.counts(bench.pool);
  await drainBacklog(bench, waiting);
}

async function requireSettled(bench, finishedBefore, tasks) {
  const { waiting, finished } = await bench.peer.counts(bench.pool);
  const settled = finished === null ? tasks : finished - finishedBefore;
  if (waiting !== 0 || settled !== tasks) {
    throw new Error(`${waiting} tasks are left and ${settled} of ${tasks} are finished`);
  }
}

async function refreshStatistics(pool) {
  await pool.query("VACUUM ANALYZE");
}

function atOnce(count, run) {
  return Promise.all(Array.from({ length: count }, run));
}

/** The lines tell the harness when the clock runs, so that CPU is counted for the same time. */
async function timed(run) {
  console.log("clock starts");
  const begin = performance.now();
  await run();
  const seconds = (performance.now() - begin) / 1_000;
  console.log("clock stops");
  return seconds;
}

function rate(tasks, seconds) {
  return { tasks, seconds: Number(seconds.toFixed(4)), per_s: Math.round(tasks / seconds) };
}

function percentiles(samples) {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share) => Math.round(sorted[Math.ceil(share * sorted.length) - 1]);
  return { samples: sorted.length, p50_us: at(0.5), p95_us: at(0.95), p99_us: at(0.99), max_us: at(1) };
}
