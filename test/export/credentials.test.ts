import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { credential, readPassword } from '../../agents/target/export/destinations/credentials.ts'
import { loadConfig } from '../../config/load.ts'
import { targetAgentSchema } from '../../config/schema.ts'

describe('Credentials', () => {
  let directory = ''

  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-test-'))
  })

  after(() => rm(directory, { recursive: true, force: true }))

  async function configured(credentials: object) {
    const file = path.join(directory, 'target.json')
    await writeFile(file, JSON.stringify({ name: 'db-7', credentials }))
    return loadConfig(targetAgentSchema, { file, env: {}, args: [] }).credentials
  }

  it('are read from the configuration by name', async () => {
    const credentials = await configured({ archive: { user: 'backup', privateKeyFile: '/etc/key' } })
    expect(credential(credentials, 'archive')).to.deep.equal({ user: 'backup', privateKeyFile: '/etc/key' })
    expect(() => credential(credentials, 'toString')).to.throw(/no credential "toString".*archive/)
  })

  it('are refused with their name when they are wrong', async () => {
    for (const [wrong, what] of [
      [{ archive: { password: 'secret' } }, /archive\.password is not a key/],
      [{ archive: { passwordFile: 'relative' } }, /archive\.passwordFile must be an absolute path/],
      [{ archive: { hostKeyFingerprint: 'MD5:aa' } }, /archive\.hostKeyFingerprint must be a fingerprint/],
    ] as const) {
      const error = await configured(wrong).catch((reason: Error) => reason)
      expect(String(error)).to.match(what).and.not.include('secret')
    }
  })

  it('are not read from a file that others can read', async () => {
    const file = path.join(directory, 'password')
    await writeFile(file, 'pass word\r\nnot this\n', { mode: 0o600 })
    expect(await readPassword(file)).to.equal('pass word')
    await chmod(file, 0o640)
    expect(String(await readPassword(file).catch((error: Error) => error))).to.include(`chmod 600 ${file}`)
  })
})
