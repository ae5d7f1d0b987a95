/** Latencies that are counted in memory which threads share, and the totals of mount processes that come and go. */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { createMountSampler, type SampledMount } from '../../agents/target/metrics/mount-sampler.ts'
import type { MountMeasurements } from '../../agents/target/mount-process/measurements.ts'
import { LATENCY_BOUNDS, Latencies } from '../../config/monitoring/latencies.ts'
import { bytesMetric, latencyMetric } from '../../config/monitoring/latency-metric.ts'
import { parseScrape, sampleOf } from './scrape.ts'

const NAMES = ['other', 'read', 'write'] as const

describe('latencies', () => {
  it('are counted in the bucket whose bound they do not exceed, with their sum and bytes', () => {
    const latencies = new Latencies(NAMES)
    latencies.observe(1, 0.02, 8192)
    latencies.observe(1, 0.0201, 8192)
    latencies.observe(1, 120_000, 0)
    const { read } = latencies.snapshot()
    expect(read?.counts.slice(0, 2)).to.deep.equal([1, 1])
    expect(read?.counts.at(-1)).to.equal(1)
    expect(read?.counts).to.have.length(LATENCY_BOUNDS.length + 1)
    expect(read?.bytes).to.equal(16384)
    expect(read?.seconds).to.be.closeTo(120.00004, 1e-5)
  })

  it('of kinds that never occurred are not there, and a kind that there is not is ignored', () => {
    const latencies = new Latencies(NAMES)
    for (const row of [-1, 3, 1_000_000]) latencies.observe(row, 1, 1)
    expect(latencies.snapshot()).to.deep.equal({})
  })

  it('are seen by the thread that shares their memory', async () => {
    const latencies = new Latencies(NAMES)
    const program = `
      import { workerData } from 'node:worker_threads'
      import { Latencies } from ${JSON.stringify(import.meta.resolve('../../config/monitoring/latencies.ts'))}
      const { observe } = new Latencies(${JSON.stringify(NAMES)}, workerData)
      for (let count = 0; count < 1000; count++) observe(2, 0.5, 10)`
    const url = new URL(`data:text/javascript,${encodeURIComponent(program)}`)
    await once(new Worker(url, { workerData: latencies.memory }), 'exit')
    expect(latencies.snapshot().write).to.deep.include({ seconds: 0.5, bytes: 10_000 })
  })

  it('are shown as a histogram and a counter of Prometheus', async () => {
    const registry = new Registry()
    const latencies = new Latencies(NAMES)
    const shown = { registry, help: 'help', label: 'operation', read: () => latencies.snapshot() }
    latencyMetric({ ...shown, name: 'request_seconds' })
    bytesMetric({ ...shown, name: 'bytes_total' })
    latencies.observe(1, 0.03, 8192)
    latencies.observe(1, 3, 8192)
    latencies.observe(0, 3, 0)
    const scrape = parseScrape(await registry.metrics())
    expect(scrape.types.get('request_seconds')).to.equal('histogram')
    const buckets = scrape.series.filter(
      ({ name, labels }) => name === 'request_seconds_bucket' && labels.operation === 'read',
    )
    expect(buckets.map(({ labels }) => labels.le)).to.deep.equal([...LATENCY_BOUNDS.map(String), '+Inf'])
    expect(buckets.map(({ value }) => value)).to.deep.equal([0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2])
    expect(sampleOf(scrape, 'request_seconds_count', { operation: 'read' })).to.equal(2)
    expect(sampleOf(scrape, 'request_seconds_sum', { operation: 'read' })).to.be.closeTo(0.00303, 1e-9)
    expect(sampleOf(scrape, 'bytes_total', { operation: 'read' })).to.equal(16384)
    expect(sampleOf(scrape, 'bytes_total', { operation: 'other' })).to.equal(undefined)
  })
})

describe('the totals of the mount processes of a target', () => {
  const logger = pino({ level: 'silent' })

  /** A mount process that has read so often, 10 ms each. */
  function mount(session: string, pid: number, count: () => number): SampledMount {
    const measured = (): MountMeasurements => {
      const latencies = new Latencies(NAMES)
      for (let reads = 0; reads < count(); reads++) latencies.observe(1, 10, 100)
      return { fuse: latencies.snapshot(), dataPlane: {}, wal: {}, failures: count(), losses: 0 }
    }
    return {
      session,
      mount: { pid, status: async () => ({}) as never, measurements: async () => measured() },
    }
  }

  it('go on when a mount process ends and another one of the session begins from nothing', async () => {
    let reads = 5
    let present: SampledMount[] = [mount('shop-1', 10, () => reads)]
    const sampler = createMountSampler({
      mounts: () => present,
      isAdopted: () => false,
      everyMs: 1e6,
      logger,
    })
    await sampler.sample()
    reads = 8
    await sampler.sample()
    present = [mount('shop-1', 11, () => 2)]
    await sampler.sample()
    present = []
    await sampler.sample()
    sampler.close()
    expect(sampler.totals.fuse.read).to.deep.include({ bytes: 1000 })
    expect(sampler.totals.fuse.read?.counts.reduce((sum, count) => sum + count)).to.equal(10)
    expect(sampler.totals.failures).to.equal(10)
    expect(sampler.samples.size).to.equal(0)
  })

  it('leave out what a mount process did before the agent started', async () => {
    let reads = 5
    const present = [mount('shop-1', 10, () => reads)]
    const sampler = createMountSampler({ mounts: () => present, isAdopted: () => true, everyMs: 1e6, logger })
    await sampler.sample()
    expect(sampler.totals.failures).to.equal(0)
    reads = 7
    await sampler.sample()
    sampler.close()
    expect(sampler.totals.failures).to.equal(2)
  })

  it('take a process that was started after this one for its own, and an earlier one for adopted', async () => {
    const present = [mount('own', process.pid, () => 3), mount('earlier', 1, () => 4)]
    const sampler = createMountSampler({ mounts: () => present, everyMs: 1e6, logger })
    await sampler.sample()
    sampler.close()
    expect(sampler.totals.failures).to.equal(3)
  })

  it('wait for no mount process that does not answer, and ask it only once meanwhile', async () => {
    let asked = 0
    const hanging: SampledMount = {
      session: 'shop-1',
      mount: {
        pid: 10,
        status: () => {
          asked += 1
          return new Promise(() => undefined)
        },
        measurements: () => new Promise(() => undefined),
      },
    }
    const present = [hanging, mount('shop-2', 11, () => 1)]
    const sampler = createMountSampler({
      mounts: () => present,
      isAdopted: () => false,
      everyMs: 1e6,
      logger,
    })
    void sampler.sample()
    await sampler.sample()
    sampler.close()
    expect(asked).to.equal(1)
    expect(sampler.totals.failures).to.equal(1)
  })

  it('know nothing of a mount process of an earlier release, and show what it uses', async () => {
    const older: SampledMount = {
      session: 'shop-1',
      mount: {
        pid: 10,
        status: async () => ({ changedBytes: 8192 }) as never,
        measurements: async () => Promise.reject(new Error('the mount process does not know this request')),
      },
    }
    const sampler = createMountSampler({ mounts: () => [older], isAdopted: () => true, everyMs: 1e6, logger })
    await sampler.sample()
    sampler.close()
    expect(sampler.totals.fuse).to.deep.equal({})
    expect(sampler.samples.get('shop-1')?.status).to.include({ changedBytes: 8192 })
  })
})
