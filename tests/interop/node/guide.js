// The calls of the Spooled gRPC guide, each checked. Arguments: proto folder, address, key, queue.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [protos, address, key, queue] = process.argv.slice(2);
const definition = protoLoader.loadSync(path.join(protos, "spooled/v1/spooled.proto"), {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
  includeDirs: [protos],
});
const { spooled } = grpc.loadPackageDefinition(definition);
const options = {
  "grpc.keepalive_time_ms": 30000,
  "grpc.keepalive_timeout_ms": 10000,
  "grpc.keepalive_permit_without_calls": 1,
};
const queues = new spooled.v1.QueueService(address, grpc.credentials.createInsecure(), options);
const workers = new spooled.v1.WorkerService(address, grpc.credentials.createInsecure(), options);

function metadata(name = "x-api-key", value = key) {
  const made = new grpc.Metadata();
  made.add(name, value);
  return made;
}

function call(client, method, request, meta = metadata()) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 10000);
    client[method](request, meta, { deadline }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

// What a stream brings, one by one.
function reader(stream) {
  const messages = [];
  const waiting = [];
  const settle = () => {
    while (messages.length && waiting.length) waiting.shift()(messages.shift());
  };
  stream.on("data", (message) => (messages.push(message), settle()));
  stream.on("end", () => (messages.push(null), settle()));
  stream.on("error", (error) => (messages.push(error), settle()));
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve);
      settle();
    });
}

// The library brings google.protobuf itself, with names in camel case.
const text = (value) => ({ stringValue: value });
const struct = (fields) => ({
  fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, text(value)])),
});

async function enqueue(queue_name = queue) {
  return call(queues, "Enqueue", { queue_name, payload: struct({ to: "é" }), priority: 5 });
}

async function unaryCalls() {
  const { job_id, created } = await enqueue();
  assert.equal(created, true);
  const { jobs } = await call(queues, "Dequeue", {
    queue_name: queue,
    worker_id: "node",
    limit: 10,
    lease_duration_secs: 30,
  });
  assert.deepEqual(jobs.map((job) => job.id), [job_id]);
  assert.equal(jobs[0].payload.fields.to.stringValue, "é");
  assert.equal(jobs[0].status, "JOB_STATUS_PROCESSING");
  const renewed = await call(queues, "RenewLease", { job_id, lease_duration_secs: 60 });
  assert.equal(renewed.success, true);
  assert.ok(Number(renewed.new_expires_at.seconds) * 1000 > Date.now() + 50000);
  const done = await call(queues, "Complete", { job_id, result: struct({ sent: "yes" }) });
  assert.equal(done.success, true);
  const { job } = await call(queues, "GetJob", { job_id });
  assert.equal(job.status, "JOB_STATUS_COMPLETED");
  assert.equal(job.result.fields.sent.stringValue, "yes");

  const failing = await enqueue();
  await call(queues, "Dequeue", { queue_name: queue, worker_id: "node", limit: 1 });
  const failed = await call(queues, "Fail", { job_id: failing.job_id, error: "broken" });
  assert.equal(failed.will_retry, true);
  assert.equal(failed.next_retry_delay_secs, 60);
  const stats = await call(queues, "GetQueueStats", { queue_name: queue });
  assert.equal(stats.completed, "1");
  assert.equal(stats.pending, "1");
}

async function limitTakesSeveral() {
  for (let number = 0; number < 3; number += 1) await enqueue();
  const request = { queue_name: queue, worker_id: "node", limit: 2 };
  const { jobs } = await call(queues, "Dequeue", request);
  assert.equal(jobs.length, 2);
  const rest = await call(queues, "Dequeue", { ...request, limit: 10 });
  assert.equal(rest.jobs.length, 1);
  for (const job of [...jobs, ...rest.jobs]) await call(queues, "Complete", { job_id: job.id });
}

async function streaming() {
  const request = { queue_name: queue, worker_id: "node", lease_duration_secs: 30 };
  const stream = queues.StreamJobs(request, metadata());
  const read = reader(stream);
  for (let number = 0; number < 3; number += 1) {
    const { job_id } = await enqueue();
    const job = await read();
    assert.equal(job.id, job_id);
    await call(queues, "Complete", { job_id });
  }
  stream.cancel();
  assert.equal((await read()).code, grpc.status.CANCELLED);
}

// A stream that was cancelled may still get a job of its queue, which comes back after the others.
async function conversation(client, queue) {
  const stream = client.ProcessJobs(metadata());
  const read = reader(stream);
  stream.write({
    subscribe: { queue_name: queue, worker_id: "node", max_concurrent: 2, lease_duration_secs: 30 },
  });
  const sent = [];
  for (let number = 0; number < 4; number += 1) sent.push((await enqueue(queue)).job_id);
  const first = [(await read()).job, (await read()).job];
  assert.deepEqual(first.map((job) => job.id), sent.slice(0, 2));
  stream.write({ heartbeat: { worker_id: "node", current_jobs: 2, status: "healthy" } });
  const ack = await read();
  assert.equal(ack.response, "heartbeat_ack");
  assert.equal(ack.heartbeat_ack.acknowledged, true);
  const open = first.map((job) => job.id);
  const seen = [...open];
  let completed = 0;
  stream.write({ complete: { job_id: open.shift(), result: struct({ ok: "yes" }) } });
  while (completed < 4) {
    const answer = await read();
    if (answer.response === "job") {
      seen.push(answer.job.id);
      open.push(answer.job.id);
    } else {
      assert.equal(answer.response, "complete");
      assert.equal(answer.complete.success, true);
      completed += 1;
    }
    if (open.length) stream.write({ complete: { job_id: open.shift() } });
  }
  assert.deepEqual(seen, sent);
  stream.write({ complete: { job_id: sent[0] } });
  const refusal = await read();
  assert.equal(refusal.response, "error");
  assert.equal(refusal.error.code, "FAILED_PRECONDITION");
  stream.end();
  assert.equal(await read(), null);
}

async function workerLife() {
  const { worker_id, heartbeat_interval_secs } = await call(workers, "Register", {
    queue_name: queue,
    hostname: "host",
    worker_type: "node",
    max_concurrency: 5,
    version: "1",
    metadata: { zone: "a" },
  });
  assert.ok(worker_id);
  assert.equal(heartbeat_interval_secs, 10);
  const beat = await call(workers, "Heartbeat", { worker_id, current_jobs: 0, status: "healthy" });
  assert.equal(beat.acknowledged, true);
  assert.equal((await call(workers, "Deregister", { worker_id })).success, true);
}

async function keys() {
  const request = { queue_name: queue };
  await call(queues, "GetQueueStats", request, metadata("authorization", `Bearer ${key}`));
  for (const wrong of [metadata("x-api-key", "sp_test_wrong"), new grpc.Metadata()]) {
    await assert.rejects(call(queues, "GetQueueStats", request, wrong), {
      code: grpc.status.UNAUTHENTICATED,
    });
  }
}

async function main() {
  await unaryCalls();
  await limitTakesSeveral();
  await streaming();
  await conversation(queues, `${queue}-of-queues`);
  await conversation(workers, `${queue}-of-workers`);
  await workerLife();
  await keys();
  queues.close();
  workers.close();
  console.log("every call of the guide was answered as it says");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
