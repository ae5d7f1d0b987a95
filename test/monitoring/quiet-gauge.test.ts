/** Gauges whose values have to be asked for: of a store, of RabbitMQ, of files. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { Gauge, Registry } from 'prom-client'
import { certificateMetrics, diskMetrics } from '../../config/monitoring/file-metrics.ts'
import { QuietGauge } from '../../config/monitoring/quiet-gauge.ts'
import { ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import { parseScrape, type Series, sampleOf } from './scrape.ts'

describe('a gauge that asks for its values', () => {
  let registry: Registry

  beforeEach(() => {
    registry = new Registry()
    new Gauge({ name: 'other', help: 'help', registers: [registry] }).set(7)
  })

  const series = async (): Promise<readonly Series[]> => parseScrape(await registry.metrics()).series
  const named = async (name: string) => (await series()).filter((one) => one.name === name)

  it('shows what there is now, and not what there was', async () => {
    let values: [{ state: string }, number][] = [
      [{ state: 'a' }, 1],
      [{ state: 'b' }, 2],
    ]
    const read = async () => values
    new QuietGauge({ name: 'asked', help: 'help', labelNames: ['state'], registers: [registry], read })
    expect(await named('asked')).to.have.length(2)
    values = [[{ state: 'b' }, 3]]
    expect(await named('asked')).to.deep.equal([{ name: 'asked', labels: { state: 'b' }, value: 3 }])
  })

  it('is missing, and not 0, while its source fails, with labels or without; the others are there', async () => {
    let fails = true
    const read = async (): Promise<[object, number][]> => {
      if (fails) throw new Error('away')
      return [[{}, 5]]
    }
    new QuietGauge({ name: 'plain', help: 'help', registers: [registry], read })
    expect(await named('plain')).to.deep.equal([])
    expect(await named('other')).to.have.length(1)
    fails = false
    expect(await named('plain')).to.deep.equal([{ name: 'plain', labels: {}, value: 5 }])
  })

  it('waits a second for a source that hangs, and asks it only once', async () => {
    let asked = 0
    const read = () => {
      asked += 1
      return new Promise<never>(() => undefined)
    }
    new QuietGauge({ name: 'hanging', help: 'help', registers: [registry], read })
    const begun = performance.now()
    await Promise.all([series(), series()])
    expect(asked).to.equal(1)
    expect(performance.now() - begun).to.be.lessThan(4_000)
    expect(await named('other')).to.have.length(1)
  })
})

describe('the metrics of files', () => {
  let directory: string

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-file-metrics-'))
  })

  afterEach(() => rm(directory, { recursive: true }))

  it('say until when each certificate is valid, also after it was renewed, and of a file that is none nothing', async () => {
    const [made] = await ensureCertificates(directory, {
      identities: [{ kind: 'target', name: 'db-7', addresses: [] }],
    })
    const file = made?.cert ?? ''
    const registry = new Registry()
    certificateMetrics(registry, { agent: file, authority: made?.ca ?? '', broker: null })
    const expiry = async (certificate: string) =>
      sampleOf(parseScrape(await registry.metrics()), 'howdah_certificate_expiry_timestamp_seconds', {
        certificate,
      })
    expect(await expiry('agent')).to.be.greaterThan(Date.now() / 1000)
    expect(await expiry('broker')).to.equal(undefined)
    await writeFile(file, 'this is no certificate')
    expect(await expiry('agent'), 'a file that is none is missing').to.equal(undefined)
    expect(await expiry('authority'), 'and no other with it').to.be.greaterThan(Date.now() / 1000)
    await writeFile(file, await readFile(made?.ca ?? ''))
    expect(await expiry('agent'), 'read again').to.equal(await expiry('authority'))
  })

  it('say how much room there is on the disk of a directory', async () => {
    const registry = new Registry()
    diskMetrics(registry, { state: directory })
    const scrape = parseScrape(await registry.metrics())
    const size = sampleOf(scrape, 'howdah_disk_size_bytes', { directory: 'state' })
    expect(size).to.be.greaterThan(1024 ** 2)
    expect(sampleOf(scrape, 'howdah_disk_available_bytes', { directory: 'state' })).to.be.within(1, size ?? 0)
  })
})
