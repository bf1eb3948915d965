// pg-boss with its batch calls: insert, fetch and complete take many jobs at a time.

import { setTimeout as pause } from "node:timers/promises";
import { PgBoss } from "pg-boss";
import { main } from "./bench.mjs";

const QUEUE = "bench";
// The same, but a new job wakes its worker: only the latency command wants that.
const NOTIFIED_QUEUE = "bench-notified";
const FETCH_SIZE = 500;
const FETCH_LOOPS = 4;
const IDLE_MS = 5;

await main({ migrate, connect, work, counts });

async function open(url, settings) {
  const boss = new PgBoss({ connectionString: url, schedule: false, ...settings });
  boss.on("error", (error) => console.error(error.message));
  await boss.start();
  return boss;
}

async function migrate(url) {
  const boss = await open(url, {});
  await boss.createQueue(QUEUE);
  await boss.createQueue(NOTIFIED_QUEUE, { notify: true });
  await boss.stop();
}

async function connect(url, { connections, notified = false }) {
  const boss = await open(url, { max: connections });
  const queue = notified ? NOTIFIED_QUEUE : QUEUE;
  return {
    submit: (payloads) => boss.insert(queue, payloads.map((data) => ({ data }))),
    submitOne: (payload) => boss.send(queue, payload),
    close: () => boss.stop(),
  };
}

function work(url, onStart, { notified = false } = {}) {
  return notified ? workNotified(url, onStart) : workInBatches(url, onStart);
}

async function workNotified(url, onStart) {
  const boss = await open(url, { useListenNotify: true });
  const polling = { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };
  await boss.work(NOTIFIED_QUEUE, polling, async () => onStart());
  return { stop: () => boss.stop() };
}

async function workInBatches(url, onStart) {
  const boss = await open(url, { max: FETCH_LOOPS });
  let running = true;
  let completed = 0;
  let failure = null;
  let changed = () => {};

  async function loop() {
    while (running) {
      const jobs = await boss.fetch(QUEUE, { batchSize: FETCH_SIZE });
      if (jobs.length === 0) {
        await pause(IDLE_MS);
        continue;
      }
      jobs.forEach(onStart);
      await boss.complete(QUEUE, jobs.map((job) => job.id));
      completed += jobs.length;
      changed();
    }
  }

  const loops = Array.from({ length: FETCH_LOOPS }, () =>
    loop().catch((error) => {
      failure = error;
      changed();
    }),
  );
  return {
    settled: (count) =>
      new Promise((resolve, reject) => {
        changed = () => {
          if (failure !== null) {
            reject(failure);
          } else if (completed >= count) {
            resolve();
          }
        };
        changed();
      }),
    async stop() {
      running = false;
      await Promise.all(loops);
      await boss.stop();
    },
  };
}

async function counts(pool) {
  const { rows } = await pool.query(
    `SELECT count(*) FILTER (WHERE state < 'completed')::int AS waiting,
            count(*) FILTER (WHERE state = 'completed')::int AS finished
     FROM pgboss.job WHERE name = $1`,
    [QUEUE],
  );
  return rows[0];
}
