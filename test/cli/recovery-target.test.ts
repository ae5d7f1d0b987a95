/** Recovery targets as they are written: zones, boundaries, timelines, and what is refused. */
import { expect } from 'chai'
import { createFakeBus, type FakeBus } from './fake-bus.ts'
import { run } from './run.ts'

const PUBLISH = ['publish', '--repository', 'prod', '--instance', 'main', '--target', 'local', '--no-wait']

describe('a recovery target', () => {
  const zoneBefore = process.env.TZ
  let bus: FakeBus

  beforeEach(() => {
    process.env.TZ = 'Europe/Berlin'
    bus = answering()
  })

  after(() => {
    if (zoneBefore === undefined) delete process.env.TZ
    else process.env.TZ = zoneBefore
  })

  function answering(): FakeBus {
    return createFakeBus({ 'instance.publish': () => ({ accepted: true, session: 'main-x' }) })
  }

  async function sent(...flags: string[]): Promise<{ recoverTo: unknown; stderr: string; stdout: string }> {
    bus = answering()
    const { status, stdout, stderr } = run([...PUBLISH, ...flags, '--json'], { bus })
    expect(await status, stderr()).to.equal(0)
    const { recoverTo } = (bus.requests.at(-1)?.body ?? {}) as { recoverTo?: unknown }
    return { recoverTo, stderr: stderr(), stdout: stdout() }
  }

  async function refused(...flags: string[]): Promise<string> {
    const before = bus.requests.length
    const { status, stderr } = run([...PUBLISH, ...flags], { bus })
    expect(await status).to.equal(2)
    expect(bus.requests).to.have.length(before)
    return stderr()
  }

  for (const value of ['2026-11-22 07:30:00+01', '2026-11-22T06:30:00.25Z', '2026-11-22 12:00+05:30']) {
    it(`is sent unchanged when its time has a zone: time=${value}`, async () => {
      const { recoverTo, stderr } = await sent('--recover-to', `time=${value}`)
      expect(recoverTo).to.deep.equal({ type: 'time', value })
      expect(stderr).to.equal('')
    })
  }

  it('is local time without a zone, and stderr shows it in UTC', async () => {
    const { recoverTo, stderr, stdout } = await sent('--recover-to', 'time=2026-11-22 07:30:00.123456')
    expect(recoverTo).to.deep.equal({ type: 'time', value: '2026-11-22 06:30:00.123456Z' })
    expect(stderr).to.include('07:30:00.123456 in Europe/Berlin is 06:30:00.123456 UTC')
    expect(JSON.parse(stdout).recoverTo).to.deep.equal(recoverTo)
  })

  it('is shown with its date when that differs in UTC', async () => {
    const { recoverTo, stderr } = await sent('--recover-to', 'time=2026-07-01 00:30')
    expect(recoverTo).to.deep.equal({ type: 'time', value: '2026-06-30 22:30:00Z' })
    expect(stderr).to.include('2026-07-01 00:30:00 in Europe/Berlin is 2026-06-30 22:30:00 UTC')
  })

  it('is refused at a local time that a clock change skips', async () => {
    expect(await refused('--recover-to', 'time=2026-03-29 02:30:00')).to.include(
      'is skipped in Europe/Berlin',
    )
  })

  it('is refused at a local time that occurs twice; the message shows both', async () => {
    const text = await refused('--recover-to', 'time=2026-10-25 02:30:00')
    expect(text).to.include('2026-10-25 02:30:00+02 or 2026-10-25 02:30:00+01')
  })

  it('is refused at a date that does not exist', async () => {
    for (const value of ['2026-02-30 07:00:00', 'yesterday', '2026-11-22 25:00:00+01', '2026-11-22+01'])
      expect(await refused('--recover-to', `time=${value}`)).to.include('--recover-to WHAT')
  })

  it('is exclusive by the suffix ",exclusive" and by --exclusive', async () => {
    const expected = { type: 'lsn', value: '0/3000148', inclusive: false }
    expect((await sent('--recover-to', 'lsn=0/3000148,exclusive')).recoverTo).to.deep.equal(expected)
    expect((await sent('--recover-to', 'lsn=0/3000148', '--exclusive')).recoverTo).to.deep.equal(expected)
    const { recoverTo } = await sent('--recover-to', 'xid=42,inclusive')
    expect(recoverTo).to.deep.equal({ type: 'xid', value: '42', inclusive: true })
  })

  it('cannot be exclusive unless it is a time, an LSN or a transaction', async () => {
    expect(await refused('--recover-to', 'latest', '--exclusive')).to.include('not with latest')
    expect(await refused('--recover-to', 'name=before-release,exclusive')).to.include(
      'a time, an lsn or an xid',
    )
  })

  it('has a timeline by number or name, also without --recover-to', async () => {
    expect((await sent('--timeline', '3')).recoverTo).to.deep.equal({ type: 'latest', timeline: 3 })
    const { recoverTo } = await sent('--recover-to', 'name=r=1', '--timeline', 'current')
    expect(recoverTo).to.deep.equal({ type: 'name', value: 'r=1', timeline: 'current' })
    expect(await refused('--timeline', '0')).to.include('--timeline N')
  })

  it('is refused with an invalid LSN or transaction number', async () => {
    expect(await refused('--recover-to', 'lsn=12')).to.include('lsn=0/3000148')
    expect(await refused('--recover-to', 'xid=x')).to.include('xid=1234')
  })
})
