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
    it(`with a zone goes as it is: time=${value}`, async () => {
      const { recoverTo, stderr } = await sent('--recover-to', `time=${value}`)
      expect(recoverTo).to.deep.equal({ type: 'time', value })
      expect(stderr).to.equal('')
    })
  }

  it('without a zone is local, and stderr says which moment that is', async () => {
    const { recoverTo, stderr, stdout } = await sent('--recover-to', 'time=2026-11-22 07:30:00.123456')
    expect(recoverTo).to.deep.equal({ type: 'time', value: '2026-11-22 06:30:00.123456Z' })
    expect(stderr).to.include('07:30:00.123456 in Europe/Berlin is 06:30:00.123456 UTC')
    expect(JSON.parse(stdout).recoverTo).to.deep.equal(recoverTo)
  })

  it('without a zone just after midnight names the day in UTC', async () => {
    const { recoverTo, stderr } = await sent('--recover-to', 'time=2026-07-01 00:30')
    expect(recoverTo).to.deep.equal({ type: 'time', value: '2026-06-30 22:30:00Z' })
    expect(stderr).to.include('2026-07-01 00:30:00 in Europe/Berlin is 2026-06-30 22:30:00 UTC')
  })

  it('at a local time that the clocks skip is refused', async () => {
    expect(await refused('--recover-to', 'time=2026-03-29 02:30:00')).to.include(
      'is skipped in Europe/Berlin',
    )
  })

  it('at a local time that comes twice is refused with both', async () => {
    const text = await refused('--recover-to', 'time=2026-10-25 02:30:00')
    expect(text).to.include('2026-10-25 02:30:00+02 or 2026-10-25 02:30:00+01')
  })

  it('at a day that there is not is refused', async () => {
    for (const value of ['2026-02-30 07:00:00', 'yesterday', '2026-11-22 25:00:00+01', '2026-11-22+01'])
      expect(await refused('--recover-to', `time=${value}`)).to.include('--recover-to WHAT')
  })

  it('is exclusive by a suffix and by a flag', async () => {
    const expected = { type: 'lsn', value: '0/3000148', inclusive: false }
    expect((await sent('--recover-to', 'lsn=0/3000148,exclusive')).recoverTo).to.deep.equal(expected)
    expect((await sent('--recover-to', 'lsn=0/3000148', '--exclusive')).recoverTo).to.deep.equal(expected)
    const { recoverTo } = await sent('--recover-to', 'xid=42,inclusive')
    expect(recoverTo).to.deep.equal({ type: 'xid', value: '42', inclusive: true })
  })

  it('that has no before and after cannot be exclusive', async () => {
    expect(await refused('--recover-to', 'latest', '--exclusive')).to.include('not with latest')
    expect(await refused('--recover-to', 'name=before-release,exclusive')).to.include(
      'a time, an lsn or an xid',
    )
  })

  it('has a timeline by number and by name, also without --recover-to', async () => {
    expect((await sent('--timeline', '3')).recoverTo).to.deep.equal({ type: 'latest', timeline: 3 })
    const { recoverTo } = await sent('--recover-to', 'name=r=1', '--timeline', 'current')
    expect(recoverTo).to.deep.equal({ type: 'name', value: 'r=1', timeline: 'current' })
    expect(await refused('--timeline', '0')).to.include('--timeline N')
  })

  it('whose LSN or transaction cannot be is refused', async () => {
    expect(await refused('--recover-to', 'lsn=12')).to.include('lsn=0/3000148')
    expect(await refused('--recover-to', 'xid=x')).to.include('xid=1234')
  })
})
