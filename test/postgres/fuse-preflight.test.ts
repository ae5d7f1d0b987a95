import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { checkFuse } from '../../agents/target/preflight/fuse.ts'
import { ownName } from '../../agents/target/preflight/user.ts'

describe('The check of FUSE without root', () => {
  let directory: string
  const uid = 1000

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-fuse-check-'))
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  const messages = async (environment: Parameters<typeof checkFuse>[0]): Promise<string[]> =>
    (await checkFuse({ device: '/dev/null', path: directory, ...environment })).map(({ message }) => message)

  it('names a missing device, and the module to load', async () => {
    const [message] = await messages({ device: join(directory, 'fuse'), uid: 0 })
    expect(message).to.match(/fuse is missing on the target\. Load the kernel module \(modprobe fuse\)/)
  })

  it('names a missing fusermount, the user, and the package', async () => {
    const [message] = await messages({ uid })
    expect(message).to.include('fusermount is not installed')
    expect(message).to.include(`"${ownName()}"`)
    expect(message).to.include('package fuse')
  })

  it('names a fusermount that is not setuid root', async () => {
    const program = join(directory, 'fusermount')
    await writeFile(program, '')
    await chmod(program, 0o755)
    const [message] = await messages({ uid })
    expect(message).to.include(`${program} is not setuid root`)
    expect(message).to.include(`chmod 4755 ${program}`)
  })

  it('reports everything that is wrong at once', async () => {
    const found = await checkFuse({ device: join(directory, 'fuse'), path: directory, uid })
    expect(found.map(({ code }) => code)).to.deep.equal(['fuse_unusable', 'fuse_unusable'])
  })

  it('requires no fusermount where the agent is root', async () => {
    expect(await messages({ uid: 0 })).to.deep.equal([])
  })
})
