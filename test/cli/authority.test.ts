import { X509Certificate } from 'node:crypto'
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { scratchDirectory } from '../support/scratch.ts'
import { run } from './run.ts'

describe('howdah authority', () => {
  let scratch: string
  let directory: string

  beforeEach(async () => {
    scratch = await scratchDirectory('howdah-authority-')
    directory = path.join(scratch, 'authority')
  })

  afterEach(() => rm(scratch, { recursive: true }))

  async function authority(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = run(['authority', ...args, '--directory', directory])
    expect(await status, stderr()).to.equal(0)
    return stdout()
  }

  async function refusal(...args: string[]): Promise<{ status: number; stderr: string }> {
    const { status, stderr } = run(['authority', ...args, '--directory', directory])
    return { status: await status, stderr: stderr() }
  }

  it('is made once, with a key that only its owner reads, and shown with its fingerprint', async () => {
    const made = await authority('init')
    expect(made).to.match(/^SHA256:[A-Za-z0-9+/]{43} {2}valid until 20/)
    expect((await stat(path.join(directory, 'ca.key'))).mode & 0o777).to.equal(0o600)
    expect(await authority('init')).to.equal(made)
    expect(await authority('show')).to.equal(made)
    const { fingerprint } = JSON.parse(await authority('show', '--json')) as { fingerprint: string }
    expect(made.startsWith(fingerprint)).to.equal(true)
  })

  it('is not shown where it is not, or where its key is of another one', async () => {
    const missing = await refusal('show')
    expect(missing.status).to.equal(1)
    expect(missing.stderr).to.include('howdah authority init')
    await authority('init')
    const certificate = await readFile(path.join(directory, 'ca.pem'), 'utf8')
    for (const file of ['ca.pem', 'ca.key']) await rm(path.join(directory, file))
    await authority('init')
    await writeFile(path.join(directory, 'ca.pem'), certificate)
    const mixed = await refusal('show')
    expect(mixed.status).to.equal(1)
    expect(mixed.stderr).to.include('not the certificate and the key of one authority')
  })

  for (const [args, file, user, usages] of [
    [['coordinator'], 'coordinator', 'howdah-coordinator', ['client']],
    [['operator', 'alice'], 'operator-alice', 'howdah-operator-alice', ['client']],
    [['client', 'backup'], 'client-backup', 'howdah-client-backup', ['client']],
    [['broker', 'r-1', '--address', '10.0.0.5'], 'broker-r-1', 'r-1', ['server', 'client']],
  ] as const) {
    it(`issues the certificate of "${args.slice(0, 2).join(' ')}", and keeps it while it is good`, async () => {
      await authority('issue', ...args)
      const read = async () => readFile(path.join(directory, `${file}.pem`), 'utf8')
      const text = await read()
      const certificate = new X509Certificate(text)
      expect(certificate.subject).to.equal(`CN=${user}`)
      const numbers = usages.map((usage) => `1.3.6.1.5.5.7.3.${usage === 'server' ? 1 : 2}`)
      expect(certificate.keyUsage).to.deep.equal(numbers)
      expect((await stat(path.join(directory, `${file}.key`))).mode & 0o777).to.equal(0o600)
      await authority('issue', ...args)
      expect(await read()).to.equal(text)
    })
  }

  for (const [what, args, part] of [
    ['of a kind that there is not', ['server', 'a'], 'there is no KIND "server"'],
    ['of a client without a name', ['client'], 'a client needs a NAME'],
    ['of a coordinator with one', ['coordinator', 'a'], 'the coordinator has no NAME'],
    ['of a broker without an address', ['broker', 'a'], '--address'],
    ['of a client with an address', ['client', 'a', '--address', 'b'], '--address'],
    ['of a name that is none', ['client', '../a'], 'NAME: must be'],
  ] as const) {
    it(`does not issue a certificate ${what}`, async () => {
      const { status, stderr } = await refusal('issue', ...args)
      expect(status).to.equal(2)
      expect(stderr).to.include(part)
      expect(await readdir(scratch)).to.deep.equal([])
    })
  }
})
